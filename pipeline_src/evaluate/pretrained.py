"""What pre-training learned before any label was used, against the untrained network.

Retrieval, and where there are training clips, reconstruction of held-out clips and linear, k-NN
or attentive probes; writes metrics.json, retrieval.npz and reconstructions.npz. The data set need
not be one that it learnt from. Of clips without video only the audio features are probed.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline_src.config import EvaluateConfig, ModelConfig
from pipeline_src.evaluate.attentive import attentive_scores
from pipeline_src.evaluate.common import (
    Split,
    check_fits,
    num_seen_frames,
    open_split,
    pick_device,
    pooled,
    provenance,
    shared_sources,
)
from pipeline_src.evaluate.differences import headline_difference
from pipeline_src.evaluate.files import RECONSTRUCTIONS_FILE, RETRIEVAL_FILE
from pipeline_src.evaluate.gallery import encoder_retrieval, score_retrieval
from pipeline_src.evaluate.predict import SET, Outputs
from pipeline_src.evaluate.probes import LabelledFeatures, ProbePredictions, headline, probe_scores
from pipeline_src.evaluate.reconstruction import evaluate_reconstruction
from pipeline_src.evaluate.records import HEADLINE, ProbeMetrics, write_metrics
from pipeline_src.evaluate.summary import summarise_probe
from pipeline_src.modalities import HEADS, MODALITIES
from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.runs.done import read_done


def evaluate_pretrained(
    *,
    run: str,
    pretrain_done: Path,
    train_index: Path | None,
    val_index: Path | None,
    test_index: Path,
    groups_path: Path | None,
    metrics_path: Path,
    model: ModelConfig,
    evaluate: EvaluateConfig,
    config: dict[str, Any],
    num_examples: int,
    num_threads: int,
) -> None:
    """Score a pre-training on a labelled data set without fine-tuning.

    Args:
        train_index: training clips for probes and the mean predictions that reconstruction is
            compared with; None scores retrieval alone.
        val_index: chooses the strength of the linear probe; None holds out training clips.
        groups_path: what the test clips share, see ``open_split``.
    """
    started = time.monotonic()
    torch.set_num_threads(num_threads)
    checkpoint = read_done(pretrain_done)
    splits = {"test": open_split(test_index, config, groups_path)}
    if train_index:
        splits["train"] = open_split(train_index, config)
    if val_index and val_index != test_index:  # never choose on the scored clips
        splits["val"] = open_split(val_index, config)
    warnings = check_fits(checkpoint, splits["test"], model)
    with_sets = "attentive" in evaluate.probe_kinds
    features = {
        state: {
            name: pooled(
                checkpoint, split, evaluate, trained=state == "pretrained", with_sets=with_sets
            )
            for name, split in splits.items()
        }
        for state in ("pretrained", "untrained")
    }
    test = splits["test"]
    shared = shared_sources(test, features["pretrained"]["test"]["index"].tolist())
    groups = shared["sources"].tolist() if shared else None
    errors = {}
    if "train" in splits and test.has_video:
        errors = evaluate_reconstruction(
            checkpoint,
            train=splits["train"],
            test=test,
            groups=groups,
            evaluate=evaluate,
            num_examples=num_examples,
            pictures_path=metrics_path.parent / RECONSTRUCTIONS_FILE,
        )
    metrics = {
        "run": run,
        **test.coverage(),
        **({"warnings": warnings} if warnings else {}),
        "num_frames": num_seen_frames(checkpoint, evaluate) if test.has_video else 0,
        "reconstruction": errors,
        "probes": _probes(features, test, evaluate, groups) if "train" in splits else {},
        **(
            _retrievals(checkpoint, features, test, evaluate, metrics_path.parent)
            if test.has_video
            else {}
        ),
        **provenance(checkpoint, splits["test"], evaluate, config),
        "seconds": round(time.monotonic() - started, 2),
    }
    write_metrics(metrics_path, ProbeMetrics, metrics, summarise_probe)


def _retrievals(
    checkpoint: Checkpoint,
    features: dict[str, dict[str, Outputs]],
    test: Split,
    evaluate: EvaluateConfig,
    folder: Path,
) -> dict[str, Any]:
    """Score retrieval with the pre-trained and with the untrained encoder."""
    pretrained, untrained = (features[state]["test"] for state in ("pretrained", "untrained"))
    return {
        "retrieval": encoder_retrieval(
            "pretrain", checkpoint, pretrained, test, evaluate, folder / RETRIEVAL_FILE
        ),
        "retrieval_untrained": score_retrieval(untrained, test, evaluate),
    }


def _probes(
    features: dict[str, dict[str, Outputs]],
    split: Split,
    evaluate: EvaluateConfig,
    groups: Sequence[str] | None,
) -> dict[str, dict[str, Any]]:
    """Score the probes by state and head; those of the trained encoder against its start."""
    test, task = features["pretrained"]["test"], split.index["task"]
    options: Any = {"task": task, "num_resamples": evaluate.num_bootstrap, "seed": evaluate.seed}
    figures: dict[str, dict[str, Any]] = {state: {} for state in features}
    for head in HEADS if "video" in test else ("audio",):
        found = {s: _probe(by_split, head, task, evaluate) for s, by_split in features.items()}
        for state, scores in found.items():
            figures[state][head] = {"metric": HEADLINE[task]} | {
                kind: {**headline(one.scores_NC, test["targets"], **options), **one.chosen}
                for kind, one in scores.items()
            }
        for kind, ours in found["pretrained"].items():
            pair = (ours.scores_NC, found["untrained"][kind].scores_NC)
            gain = headline_difference(*pair, test["targets"], **options, groups=groups)
            figures["pretrained"][head][kind]["over_untrained"] = gain
    return figures


def _probe(
    by_split: dict[str, Outputs], head: str, task: Any, evaluate: EvaluateConfig
) -> dict[str, ProbePredictions]:
    """Score the test clips (N, C) with the probes of one input that the configuration names."""
    parts = MODALITIES if head == "audio_video" else (head,)

    def labelled(kind: str) -> dict[str, LabelledFeatures | None]:
        splits: dict[str, LabelledFeatures | None] = {"val": None}
        for name, outputs in by_split.items():
            values = np.concatenate([outputs[part + kind] for part in parts], axis=1)
            splits[name] = LabelledFeatures(values, outputs["targets"])
        return splits

    kinds = evaluate.probe_kinds
    options: Any = {"task": task, "seed": evaluate.seed}
    clips: Any = labelled("")
    scores = probe_scores(**clips, **options, num_neighbours=evaluate.knn, kinds=kinds)
    if "attentive" in kinds:
        sets: Any = labelled(SET)
        scores["attentive"] = attentive_scores(**sets, **options, device=pick_device())
    return scores
