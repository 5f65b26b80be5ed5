"""Score a fine-tuned checkpoint: metrics.json, predictions.npz, embeddings.npz."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline_src.atomic import write_json
from pipeline_src.config import EvaluateConfig, ModelConfig
from pipeline_src.errors import CheckpointError
from pipeline_src.eval.common import (
    Split,
    check_fits,
    open_split,
    pick_device,
    provenance,
    save_arrays,
)
from pipeline_src.eval.intervals import classification_intervals
from pipeline_src.eval.predict import Outputs, head_probabilities, pooled_features, run_over
from pipeline_src.eval.retrieval import retrieval_metrics, select_gallery
from pipeline_src.eval.summary import SUMMARY_FILE, summarise_evaluation
from pipeline_src.runs.build import restore_model
from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.runs.done import read_done

HEADS = ("audio", "video", "audio_video")


def evaluate_finetuned(
    *,
    run: str,
    finetune_done: Path,
    pretrain_done: Path | None,
    index_path: Path,
    metrics_path: Path,
    model: ModelConfig,
    evaluate: EvaluateConfig,
    config: dict[str, Any],
    num_threads: int,
) -> None:
    """Score every clip of a split once, with audio, video and both.

    Retrieval uses the pre-trained encoder, as the field does; without one, the fine-tuned encoder.

    Args:
        config: the whole configuration, kept in metrics.json.
        pretrain_done: done.json of the pre-training, or None for a run from scratch.
    Raises:
        CheckpointError: the checkpoint is of another network or was trained on other classes.
        ManifestError: the split is empty.
    """
    started = time.monotonic()
    torch.set_num_threads(num_threads)
    split = open_split(index_path)
    checkpoint = read_done(finetune_done)
    check_fits(checkpoint, split, model)
    _check_classes(checkpoint, split, finetune_done)
    scores = _scores(checkpoint, split, evaluate)
    encoder = read_done(pretrain_done) if pretrain_done else checkpoint
    check_fits(encoder, split, model)
    features = pooled(encoder, split, evaluate)
    clip_ids = np.array([split.shards.samples[i].clip_id for i in scores["index"]])
    labelled = {"clip_ids": clip_ids, "targets": scores["targets"]}
    folder = metrics_path.parent
    save_arrays(folder / "predictions.npz", labelled | {head: scores[head] for head in HEADS})
    vectors = {name: features[name] for name in ("audio", "video")}
    save_arrays(folder / "embeddings.npz", labelled | vectors)
    metrics = {
        "run": run,
        **split.coverage(),
        "num_frames": evaluate.num_frames,
        **_classification(scores, split.index["task"], evaluate),
        "retrieval": {
            "checkpoint": "pretrain" if pretrain_done else "finetune",
            **retrieval(features, split, evaluate),
        },
        **provenance(checkpoint, split, evaluate, config),
        "seconds": round(time.monotonic() - started, 2),
    }
    write_json(metrics_path.with_name(SUMMARY_FILE), summarise_evaluation(metrics))
    write_json(metrics_path, metrics)


def pooled(
    checkpoint: Checkpoint, split: Split, evaluate: EvaluateConfig, *, trained: bool = True
) -> Outputs:
    """Pooled audio and video features of a split; ``trained=False``: of the initial weights."""
    device = pick_device()
    model = restore_model(checkpoint, trained=trained)[0].to(device)
    return run_over(
        split.dataset(checkpoint, evaluate),
        lambda batch: pooled_features(model, batch),
        batch_size=evaluate.batch_size,
        device=device,
        num_workers=evaluate.num_workers,
    )


def retrieval(features: Outputs, split: Split, evaluate: EvaluateConfig) -> dict[str, Any]:
    """Both directions over the gallery that the configuration names, else the published one.

    Of projected features where the pre-training has projections: it aligned those.
    """
    per_class = evaluate.retrieval_per_class
    if per_class is None:
        per_class = split.index["retrieval_per_class"]
    gallery = select_gallery(features["targets"], per_class)
    audio, video = (
        features.get(f"{name}_contrasted", features[name]) for name in ("audio", "video")
    )
    return retrieval_metrics(
        audio[gallery],
        video[gallery],
        num_resamples=evaluate.num_bootstrap,
        seed=evaluate.seed,
    )


def _scores(checkpoint: Checkpoint, split: Split, evaluate: EvaluateConfig) -> Outputs:
    device = pick_device()
    model = restore_model(checkpoint)[0].to(device)
    task = split.index["task"]
    return run_over(
        split.dataset(checkpoint, evaluate),
        lambda batch: head_probabilities(model, batch, task=task),
        batch_size=evaluate.batch_size,
        device=device,
        num_workers=evaluate.num_workers,
    )


def _classification(scores: Outputs, task: str, evaluate: EvaluateConfig) -> dict[str, Any]:
    return {
        head: classification_intervals(
            scores[head],
            scores["targets"],
            task=task,  # type: ignore[arg-type]
            num_resamples=evaluate.num_bootstrap,
            seed=evaluate.seed,
        )
        for head in HEADS
    }


def _check_classes(checkpoint: Checkpoint, split: Split, done: Path) -> None:
    trained, listed = checkpoint.state["class_names"], split.index["class_names"]
    if trained != listed:
        raise CheckpointError(
            f"{done}: trained on {len(trained)} classes, {split.index['dataset']} lists "
            f"{len(listed)} others; fine-tune on it first"
        )
