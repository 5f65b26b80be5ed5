"""Which clips a retrieval is scored on, and on what terms: its gallery and its checkpoint's past.

Shape legend: N clips of the split, S clips of the gallery, C classes, D, E feature widths,
K segments of a clip, M clips whose maps are kept.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_src.config import EvaluateConfig
from pipeline_src.errors import ManifestError
from pipeline_src.evaluate.common import Split, save_arrays
from pipeline_src.evaluate.predict import CONTRASTED, SEGMENTS, SINGLE, Outputs
from pipeline_src.evaluate.retrieval import direction_metrics, gallery_metrics, rank_pairs
from pipeline_src.evaluate.segments import (
    PUBLISHED_SCORE,
    segment_metrics,
    segment_ranks,
    similarity_maps,
)
from pipeline_src.modalities import MODALITIES
from pipeline_src.runs.checkpoint import MODEL_FILE, Checkpoint
from pipeline_src.shards.shard_set import dropped_clips

MAX_MAPS = 16


def score_retrieval(
    features: Outputs, split: Split, evaluate: EvaluateConfig, arrays_path: Path | None = None
) -> dict[str, Any]:
    """Score both directions over the gallery that the configuration names, else the data set's own.

    Args:
        arrays_path: where ``clip_ids`` and by direction the rank of each clip's own partner are
            written, (S,), to compare runs by; of aligned segments also ``segment_similarity``,
            (M, K, K), and ``shown_clip_ids`` of the first M clips.
    Returns:
        ``gallery_metrics`` and the gallery. Where clips have several frame groups,
        ``single_frame`` holds the directions with the middle group alone, as published figures do;
        where each has its segment of sound, they are those of ``segment_metrics``.
    """
    clip_ids = [split.shards.samples[i].clip_id for i in features["index"]]
    chosen, gallery = choose_gallery(clip_ids, features["targets"], split, evaluate)
    gallery_ids = np.array(clip_ids)[chosen]
    options = {"num_resamples": evaluate.num_bootstrap, "seed": evaluate.seed}
    shown: dict[str, NDArray] = {}
    if "audio" + SEGMENTS in features:
        segments = [features[name + SEGMENTS][chosen] for name in MODALITIES]
        by_score = segment_ranks(*segments)
        ranks, figures = by_score[PUBLISHED_SCORE], segment_metrics(by_score, **options)
        shown = {
            "shown_clip_ids": gallery_ids[:MAX_MAPS],
            "segment_similarity": similarity_maps(*(side[:MAX_MAPS] for side in segments)),
        }
    else:
        audio, video = (_compared(features, name)[chosen] for name in MODALITIES)
        ranks = rank_pairs(audio, video)
        figures = gallery_metrics(ranks, **options)
        if SINGLE + "video" in features:
            single = rank_pairs(audio, _compared(features, SINGLE + "video")[chosen])
            figures["single_frame"] = direction_metrics(single, **options)
    if arrays_path:
        named = {name: rank.ranks_N for name, rank in ranks.items()}
        save_arrays(arrays_path, {"clip_ids": gallery_ids, **named, **shown})
    return {"gallery": gallery, **figures}


def encoder_retrieval(
    stage: str,
    encoder: Checkpoint,
    features: Outputs,
    split: Split,
    evaluate: EvaluateConfig,
    arrays_path: Path,
) -> dict[str, Any]:
    """Score an encoder's features, and say after which stage and from which data it has them."""
    return {
        "checkpoint": stage,
        **checkpoint_past(encoder, split),
        **score_retrieval(features, split, evaluate, arrays_path),
    }


def _compared(features: Outputs, name: str) -> NDArray:
    """Return the features as pre-training contrasted them: (N, D), or projections (N, E)."""
    return features.get(name + CONTRASTED, features[name])


def checkpoint_past(checkpoint: Checkpoint, split: Split) -> dict[str, Any]:
    """Name the weights, the data sets that they learnt from, and whether ``split`` is new to them.

    ``zero_shot`` is true where no data set of the same collection was learnt from (AudioSet-20k is
    of AudioSet), and null, like ``trained_on``, where a checkpoint does not name its data.
    """
    learnt = checkpoint.state.get("trained_on")  # since the converter and trainings record it
    known = {value for item in learnt or () for value in item.values()}
    scored = {split.index["dataset"], split.index["collection"]}
    return {
        "checkpoint_sha256": checkpoint.state["sha256"][MODEL_FILE],
        "trained_on": None if learnt is None else [item["dataset"] for item in learnt],
        "scored_on": f"{split.index['dataset']}/{split.index['split']}",
        "zero_shot": None if learnt is None else not known & scored,
    }


def choose_gallery(
    clip_ids: Sequence[str], targets_NC: NDArray, split: Split, evaluate: EvaluateConfig
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Choose the gallery: positions (S,) of its clips in list order, and how they were chosen.

    Raises:
        ManifestError: a list of clips names none that is there.
    """
    index = split.index
    per_class, size = evaluate.retrieval_per_class, evaluate.retrieval_size
    if per_class is None and size is None:
        if index["retrieval_clips"] is not None:
            chosen, record = select_listed(clip_ids, index["retrieval_clips"], split)
            return chosen, record | _fingerprint(clip_ids, chosen)
        per_class, size = index["retrieval_per_class"], index["retrieval_size"]
    if size:
        chosen, record = select_lowest_hashes(clip_ids, size), {"rule": "size", "size": size}
    elif per_class:
        chosen = select_per_class(targets_NC, per_class)
        record = {"rule": "per_class", "per_class": per_class}
    else:
        chosen, record = np.arange(len(clip_ids)), {"rule": "every clip"}
    return chosen, record | _fingerprint(clip_ids, chosen)


def _fingerprint(clip_ids: Sequence[str], chosen_N: NDArray) -> dict[str, str]:
    """Hash the gallery's clip ids: two figures with the same hash have the same gallery."""
    ids = sorted(str(clip_ids[position]) for position in chosen_N)
    return {"clip_ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest()}


def select_per_class(targets_NC: NDArray, per_class: int) -> NDArray[np.int64]:
    """Choose the first ``per_class`` clips of each class: positions (S,) in list order.

    A clip with several labels counts for the first of them.
    """
    labels_N = targets_NC.argmax(axis=1)
    chosen = [np.flatnonzero(labels_N == label)[:per_class] for label in np.unique(labels_N)]
    return np.sort(np.concatenate(chosen))


def select_lowest_hashes(clip_ids: Sequence[str], size: int) -> NDArray[np.int64]:
    """Choose the ``size`` clips whose ids have the lowest sha256: positions (S,) in list order.

    The choice depends on no other clip, so a clip that is lost changes one place only.
    """
    hashes = [hashlib.sha256(clip_id.encode()).digest() for clip_id in clip_ids]
    return np.array(sorted(sorted(range(len(clip_ids)), key=hashes.__getitem__)[:size]))


def select_listed(
    clip_ids: Sequence[str], listed: Sequence[str], split: Split
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Choose the listed clips: positions (S,) in list order, and which could not be scored.

    ``unknown`` are ids that the split's clip list does not have, ``lost`` those that it has but
    whose clips are gone, with the reason.

    Raises:
        ManifestError: none of them is there.
    """
    wanted, present = set(listed), set(clip_ids)
    chosen = np.flatnonzero([clip_id in wanted for clip_id in clip_ids])
    where = f"{split.index['dataset']}/{split.index['split']}"
    if not len(chosen):
        raise ManifestError(
            f"retrieval_clips of {where}: none of its {len(listed)} ids, e.g. {listed[0]!r}, is a "
            f"packed clip; ids there look like {clip_ids[0]!r}"
        )
    reasons = dropped_clips(split.path)
    absent = [clip_id for clip_id in listed if clip_id not in present]
    return chosen, {
        "rule": "clips",
        "num_listed": len(listed),
        "num_found": len(chosen),
        "unknown": [clip_id for clip_id in absent if clip_id not in reasons],
        "lost": {clip_id: reasons[clip_id] for clip_id in absent if clip_id in reasons},
    }
