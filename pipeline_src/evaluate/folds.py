"""Cross-validation: mean and spread over folds of what each held-out fold was scored with."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_src.errors import StageError
from pipeline_src.evaluate.records import EvalMetrics, FoldMetrics, read_record, write_metrics
from pipeline_src.evaluate.summary import summarise_folds
from pipeline_src.modalities import Head

SHARED = ("run", "dataset", "task", "heads")
METRICS = ("accuracy", "top5_accuracy", "mAP", "mean_auc", "d_prime")


def average_folds(fold_metrics: Sequence[Path], metrics_path: Path) -> None:
    """Write metrics.json over all folds, and its summary.

    Every clip is scored once, by the model that was not trained on its fold. A figure is the plain
    mean over folds; ``std`` is the standard deviation over folds, with n - 1.

    Args:
        fold_metrics: metrics.json of each fold, in order.
    Raises:
        StageError: a file is damaged, or they are not those of one run on the folds of one data
            set.
    """
    folds = [read_record(path, EvalMetrics, "the rule evaluate_finetuned") for path in fold_metrics]
    shared = [{key: getattr(fold, key) for key in SHARED} for fold in folds]
    first = shared[0]
    for path, one in zip(fold_metrics, shared, strict=True):
        if other := [key for key in SHARED if one[key] != first[key]]:
            raise StageError(
                f"{path}: {other[0]} is {one[other[0]]}, in {fold_metrics[0]} {first[other[0]]}; "
                "delete both and run again"
            )
    metrics = {
        **first,
        "folds": [fold.split for fold in folds],
        "num_clips": sum(fold.num_clips for fold in folds),
        "num_clips_in_list": sum(fold.num_clips_in_list for fold in folds),
        **{head: _figures(folds, head) for head in folds[0].heads},
        "checkpoint_sha256": [fold.checkpoint_sha256 for fold in folds],
    }
    write_metrics(metrics_path, FoldMetrics, metrics, summarise_folds)


def _figures(folds: Sequence[EvalMetrics], head: Head) -> dict[str, Any]:
    """Give each metric that every fold has a value for: mean, standard deviation, the values."""
    figures = {}
    for name in METRICS:
        found = [scores.get(name) for fold in folds if (scores := fold.scores(head))]
        values = [figure.value for figure in found if figure and figure.value is not None]
        if values and len(values) == len(folds):
            figures[name] = {
                "value": statistics.fmean(values),
                "std": statistics.stdev(values),
                "folds": values,
            }
    return figures
