"""What pre-training learned before any label was used, against the untrained network.

Retrieval, and where there are training clips, reconstruction of held-out clips, linear and k-NN
probes; writes metrics.json and reconstructions.npz. The data set need not be one that it learnt
from. Of clips without video only the audio features are probed.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline_src.config import EvaluateConfig, ModelConfig
from pipeline_src.config.heads import HEADS
from pipeline_src.evaluate.common import Split, check_fits, open_split, provenance
from pipeline_src.evaluate.files import RECONSTRUCTIONS_FILE
from pipeline_src.evaluate.finetuned import pooled
from pipeline_src.evaluate.gallery import checkpoint_past, score_retrieval
from pipeline_src.evaluate.predict import Outputs
from pipeline_src.evaluate.probes import LabelledFeatures, probe_features
from pipeline_src.evaluate.reconstruction import evaluate_reconstruction
from pipeline_src.evaluate.records import ProbeMetrics, write_metrics
from pipeline_src.evaluate.summary import summarise_probe
from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.runs.done import read_done


def evaluate_pretrained(
    *,
    run: str,
    pretrain_done: Path,
    train_index: Path | None,
    val_index: Path | None,
    test_index: Path,
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
    """
    started = time.monotonic()
    torch.set_num_threads(num_threads)
    checkpoint = read_done(pretrain_done)
    splits = {"test": open_split(test_index, config)}
    if train_index:
        splits["train"] = open_split(train_index, config)
    if val_index and val_index != test_index:  # never choose on the scored clips
        splits["val"] = open_split(val_index, config)
    warnings = check_fits(checkpoint, splits["test"], model)
    features = {
        state: {
            name: pooled(checkpoint, split, evaluate, trained=state == "pretrained")
            for name, split in splits.items()
        }
        for state in ("pretrained", "untrained")
    }
    test = splits["test"]
    errors = {}
    if "train" in splits and test.has_video:
        errors = evaluate_reconstruction(
            checkpoint,
            train=splits["train"],
            test=test,
            evaluate=evaluate,
            num_examples=num_examples,
            pictures_path=metrics_path.parent / RECONSTRUCTIONS_FILE,
        )
    metrics = {
        "run": run,
        **test.coverage(),
        **({"warnings": warnings} if warnings else {}),
        "num_frames": evaluate.num_frames if test.has_video else 0,
        "reconstruction": errors,
        "probes": {
            state: _probes(by_split, test.index["task"], evaluate)
            for state, by_split in features.items()
            if "train" in by_split
        },
        **(_retrievals(checkpoint, features, test, evaluate) if test.has_video else {}),
        **provenance(checkpoint, splits["test"], evaluate, config),
        "seconds": round(time.monotonic() - started, 2),
    }
    write_metrics(metrics_path, ProbeMetrics, metrics, summarise_probe)


def _retrievals(
    checkpoint: Checkpoint,
    features: dict[str, dict[str, Outputs]],
    test: Split,
    evaluate: EvaluateConfig,
) -> dict[str, Any]:
    """Retrieval of the pre-trained and of the untrained encoder."""
    pretrained, untrained = (features[state]["test"] for state in ("pretrained", "untrained"))
    return {
        "retrieval": {
            "checkpoint": "pretrain",
            **checkpoint_past(checkpoint, test),
            **score_retrieval(pretrained, test, evaluate),
        },
        "retrieval_untrained": score_retrieval(untrained, test, evaluate),
    }


def _probes(by_split: dict[str, Outputs], task: str, evaluate: EvaluateConfig) -> dict[str, Any]:
    def labelled(name: str, modality: str) -> LabelledFeatures:
        outputs = by_split[name]
        parts = ("audio", "video") if modality == "audio_video" else (modality,)
        return LabelledFeatures(
            np.concatenate([outputs[part] for part in parts], axis=1), outputs["targets"]
        )

    return {
        modality: probe_features(
            train=labelled("train", modality),
            val=labelled("val", modality) if "val" in by_split else None,
            test=labelled("test", modality),
            task=task,  # type: ignore[arg-type]
            num_neighbours=evaluate.knn,
            num_resamples=evaluate.num_bootstrap,
            seed=evaluate.seed,
        )
        for modality in (HEADS if "video" in by_split["test"] else ("audio",))
    }
