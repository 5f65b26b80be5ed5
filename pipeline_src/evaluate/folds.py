"""Cross-validation: mean and spread over folds of what each held-out fold was scored with."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_src.errors import StageError
from pipeline_src.evaluate.files import SUMMARY_FILE
from pipeline_src.evaluate.summary import headline
from pipeline_src.system.atomic import write_json

SHARED = ("run", "dataset", "task", "heads")
METRICS = ("accuracy", "top5_accuracy", "mAP", "mean_auc", "d_prime")
DIGITS = 4


def average_folds(fold_metrics: Sequence[Path], metrics_path: Path) -> None:
    """Write metrics.json over all folds, and its summary.

    Every clip is scored once, by the model that was not trained on its fold. A figure is the plain
    mean over folds; ``std`` is the standard deviation over folds, with n - 1.

    Args:
        fold_metrics: metrics.json of each fold, in order.
    Raises:
        StageError: the files are not those of one run on the folds of one data set.
    """
    folds = [json.loads(path.read_text(encoding="utf-8")) for path in fold_metrics]
    first = folds[0]
    for path, fold in zip(fold_metrics, folds, strict=True):
        if other := [key for key in SHARED if fold[key] != first[key]]:
            raise StageError(
                f"{path}: {other[0]} is {fold[other[0]]}, in {fold_metrics[0]} {first[other[0]]}; "
                "delete both and run again"
            )
    metrics = {
        **{key: first[key] for key in SHARED},
        "folds": [fold["split"] for fold in folds],
        "num_clips": sum(fold["num_clips"] for fold in folds),
        "num_clips_in_list": sum(fold["num_clips_in_list"] for fold in folds),
        **{head: _figures([fold[head] for fold in folds]) for head in first["heads"]},
        "checkpoint_sha256": [fold["checkpoint_sha256"] for fold in folds],
    }
    name = headline(first["task"])
    means = {head: metrics[head][name]["value"] for head in first["heads"] if name in metrics[head]}
    summary = {head: round(value, DIGITS) for head, value in means.items()}
    write_json(metrics_path.with_name(SUMMARY_FILE), {name: summary})
    write_json(metrics_path, metrics)


def _figures(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each metric that every fold has a value for: mean, standard deviation, and the values."""
    figures = {}
    for name in METRICS:
        values = [fold[name]["value"] for fold in folds if name in fold]
        if values and None not in values:
            figures[name] = {
                "value": statistics.fmean(values),
                "std": statistics.stdev(values),
                "folds": values,
            }
    return figures
