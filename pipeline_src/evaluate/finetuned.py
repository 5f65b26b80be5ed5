"""Score a fine-tuned checkpoint: metrics.json, predictions.npz, embeddings.npz."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline_src.config import EvaluateConfig, ModelConfig
from pipeline_src.errors import CheckpointError
from pipeline_src.evaluate.common import (
    Split,
    check_fits,
    num_seen_frames,
    open_split,
    pooled,
    provenance,
    run_checkpoint,
    save_arrays,
    shared_sources,
)
from pipeline_src.evaluate.files import EMBEDDINGS_FILE, PREDICTIONS_FILE, RETRIEVAL_FILE
from pipeline_src.evaluate.gallery import encoder_retrieval
from pipeline_src.evaluate.intervals import classification_intervals
from pipeline_src.evaluate.predict import (
    SINGLE,
    Outputs,
    head_probabilities,
)
from pipeline_src.evaluate.records import EvalMetrics, write_metrics
from pipeline_src.evaluate.summary import summarise_evaluation
from pipeline_src.modalities import HEADS
from pipeline_src.runs.build import trained_network_config
from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.runs.done import read_done


def evaluate_finetuned(
    *,
    run: str,
    finetune_done: Path,
    pretrain_done: Path | None,
    index_path: Path,
    groups_path: Path | None,
    metrics_path: Path,
    model: ModelConfig,
    evaluate: EvaluateConfig,
    config: dict[str, Any],
    num_threads: int,
) -> None:
    """Score every clip of a split once, with each input that it has and the checkpoint learnt.

    Retrieval, of clips with video, uses the pre-trained encoder, as the field does; without one,
    the fine-tuned encoder.

    Args:
        config: the whole configuration, kept in metrics.json.
        pretrain_done: done.json of the pre-training, or None for a run from scratch.
        groups_path: what the clips share, see ``open_split``.
    Raises:
        CheckpointError: the checkpoint is of another network or was trained on other classes.
        ManifestError: the split is empty.
    """
    started = time.monotonic()
    torch.set_num_threads(num_threads)
    split = open_split(index_path, config, groups_path)
    checkpoint = read_done(finetune_done)
    warnings = check_fits(checkpoint, split, model)
    _check_classes(checkpoint, split, finetune_done)
    heads = _heads(checkpoint, split)
    scores = _scores(checkpoint, split, evaluate, heads)
    encoder = read_done(pretrain_done) if pretrain_done else checkpoint
    warnings += [text for text in check_fits(encoder, split, model) if text not in warnings]
    features = pooled(encoder, split, evaluate)
    clip_ids = np.array([split.shards.samples[i].clip_id for i in scores["index"]])
    labelled = {"clip_ids": clip_ids, "targets": scores["targets"]}
    sources = shared_sources(split, scores["index"].tolist())
    folder = metrics_path.parent
    save_arrays(
        folder / PREDICTIONS_FILE, labelled | sources | {head: scores[head] for head in heads}
    )
    vectors = {name: features[name] for name in split.shards.modalities}
    save_arrays(folder / EMBEDDINGS_FILE, labelled | vectors)
    retrieval = {}
    if split.has_video:
        stage = "pretrain" if pretrain_done else "finetune"
        past = encoder_retrieval(stage, encoder, features, split, evaluate, folder / RETRIEVAL_FILE)
        retrieval = {"retrieval": past}
    metrics = {
        "run": run,
        **split.coverage(),
        **({"warnings": warnings} if warnings else {}),
        "heads": heads,
        "num_frames": num_seen_frames(checkpoint, evaluate) if split.has_video else 0,
        **_classification(scores, heads, split.index["task"], evaluate),
        **_single_frame(checkpoint, scores, split.index["task"], evaluate),
        **retrieval,
        **provenance(checkpoint, split, evaluate, config),
        "seconds": round(time.monotonic() - started, 2),
    }
    write_metrics(metrics_path, EvalMetrics, metrics, summarise_evaluation)


def _heads(checkpoint: Checkpoint, split: Split) -> tuple[str, ...]:
    recipe = checkpoint.spec.recipe
    if not recipe.has_heads:
        raise CheckpointError(
            f"{checkpoint.folder}: holds a pre-training, it has no heads; name a fine-tuning"
        )
    return recipe.scored_heads(split.shards.modalities, trained_network_config(checkpoint).heads)


def _scores(
    checkpoint: Checkpoint, split: Split, evaluate: EvaluateConfig, heads: Sequence[str]
) -> Outputs:
    """Compute probabilities (N, C) by head."""
    step = partial(head_probabilities, task=split.index["task"], heads=heads)
    return run_checkpoint(checkpoint, split, evaluate, step, label=f"scores of {split}")


def _single_frame(
    checkpoint: Checkpoint, scores: Outputs, task: str, evaluate: EvaluateConfig
) -> dict[str, Any]:
    """Score the middle frame group alone, as ``single_frame``; nothing where there is one group."""
    heads = {head: scores[SINGLE + head] for head in HEADS if SINGLE + head in scores}
    if not heads:
        return {}
    num_frames = checkpoint.spec.recipe.num_frames
    labelled = {**heads, "targets": scores["targets"]}
    figures = _classification(labelled, tuple(heads), task, evaluate)
    return {"single_frame": {"num_frames": num_frames, **figures}}


def _classification(
    scores: Outputs, heads: Sequence[str], task: str, evaluate: EvaluateConfig
) -> dict[str, Any]:
    return {
        head: classification_intervals(
            scores[head],
            scores["targets"],
            task=task,  # type: ignore[arg-type]
            num_resamples=evaluate.num_bootstrap,
            seed=evaluate.seed,
        )
        for head in heads
    }


def _check_classes(checkpoint: Checkpoint, split: Split, done: Path) -> None:
    trained, listed = checkpoint.state["class_names"], split.index["class_names"]
    if trained != listed:
        raise CheckpointError(
            f"{done}: trained on {len(trained)} classes, {split.index['dataset']} lists "
            f"{len(listed)} others; fine-tune on it first"
        )
