"""Classification metrics of a score matrix: accuracy, top-5, mAP, mean AUC, d-prime.

Definitions follow CAV-MAE's released statistics (arXiv:2210.07839): average precision and AUC as
scikit-learn defines them, mean over classes, d' = sqrt(2) * Phi^-1(mean AUC). Deviation: a class
without a positive clip (or, for AUC, without a negative one) has no value; it is left out of the
mean and counted, never scored as 0.

Shape legend: N clips, C classes.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pipeline_src.modalities import LabelKind

TOP_K = 5


def check_scores(scores_NC: NDArray, targets_NC: NDArray, task: LabelKind) -> None:
    """Refuse scores and targets, (N, C) each, that no metric can be computed from.

    Raises:
        ValueError: what is wrong of them.
    """
    if task not in ("multiclass", "multilabel"):
        raise ValueError(f"task {task!r} must be 'multiclass' or 'multilabel'")
    if scores_NC.ndim != 2 or scores_NC.shape != targets_NC.shape or scores_NC.size == 0:
        raise ValueError(
            f"scores {scores_NC.shape} and targets {targets_NC.shape} must be the same "
            "(clips, classes)"
        )
    if not np.isfinite(scores_NC).all():
        bad = int((~np.isfinite(scores_NC)).any(axis=1).sum())
        raise ValueError(f"{bad} of {len(scores_NC)} clips have a score that is not finite")
    if not np.isin(targets_NC, (0, 1)).all():
        raise ValueError("targets must be 0 or 1")
    if task == "multiclass" and not (targets_NC.sum(axis=1) == 1).all():
        bad = int((targets_NC.sum(axis=1) != 1).sum())
        raise ValueError(
            f"multiclass needs one label per clip, {bad} of {len(targets_NC)} clips differ: "
            "declare the data set as task: multilabel"
        )


def hits_at(scores_NC: NDArray, targets_NC: NDArray, k: int) -> NDArray[np.bool_]:
    """Tell whether the (first) true class is among the ``k`` best scores, (N,).

    Equal scores rank in class order, as ``argmax`` does: a constant output earns nothing.
    """
    label_N = targets_NC.argmax(axis=1)[:, None]
    own_N = np.take_along_axis(scores_NC, label_N, axis=1)
    earlier_NC = np.arange(scores_NC.shape[1]) < label_N
    ahead_NC = (scores_NC > own_N) | ((scores_NC == own_N) & earlier_NC)
    return ahead_NC.sum(axis=1) < k


def accuracy(scores_NC: NDArray, targets_NC: NDArray) -> float:
    """Compute the share of clips whose best score is that of their (first) true class."""
    return float(hits_at(scores_NC, targets_NC, 1).mean())


def average_precisions(scores_NC: NDArray, targets_NC: NDArray) -> NDArray[np.float64]:
    """Compute average precision (C,); NaN for a class without positives."""
    from sklearn.metrics import average_precision_score  # late: a training needs none

    ap_C = np.full(scores_NC.shape[1], np.nan)
    for index in np.flatnonzero(targets_NC.any(axis=0)):
        ap_C[index] = average_precision_score(targets_NC[:, index], scores_NC[:, index])
    return ap_C


def aucs(scores_NC: NDArray, targets_NC: NDArray) -> NDArray[np.float64]:
    """Compute the area under the ROC curve (C,); NaN without positives or without negatives."""
    from sklearn.metrics import roc_auc_score

    auc_C = np.full(scores_NC.shape[1], np.nan)
    two_sided_C = targets_NC.any(axis=0) & ~targets_NC.all(axis=0)
    for index in np.flatnonzero(two_sided_C):
        auc_C[index] = roc_auc_score(targets_NC[:, index], scores_NC[:, index])
    return auc_C


def d_prime(auc: float) -> float:
    """Give the separation, in deviations, of two unit normals with this AUC; infinite at AUC 1."""
    return math.sqrt(2) * float(ndtri(auc))


def mean_of_scored(values_C: NDArray) -> float:
    """Average the classes that have a value; NaN where none has."""
    return float(values_C[~np.isnan(values_C)].mean()) if (~np.isnan(values_C)).any() else math.nan


def classification_metrics(
    scores_NC: NDArray, targets_NC: NDArray, task: LabelKind
) -> dict[str, float]:
    """Compute every metric of the task as a plain number; ``intervals`` gives them intervals.

    Args:
        scores_NC: higher means likelier; any monotonic scale.
        targets_NC: 0 or 1; exactly one 1 per row when multiclass.

    Returns:
        accuracy and, above 5 classes, top5_accuracy (multiclass only), mAP, mean_auc, d_prime, and
        num_classes_scored, the classes that mAP averages over.
    """
    check_scores(scores_NC, targets_NC, task)
    values: dict[str, float] = {}
    if task == "multiclass":
        values["accuracy"] = accuracy(scores_NC, targets_NC)
        if scores_NC.shape[1] > TOP_K:
            values["top5_accuracy"] = float(hits_at(scores_NC, targets_NC, TOP_K).mean())
    ap_C = average_precisions(scores_NC, targets_NC)
    mean_auc = mean_of_scored(aucs(scores_NC, targets_NC))
    return values | {
        "mAP": mean_of_scored(ap_C),
        "mean_auc": mean_auc,
        "d_prime": d_prime(mean_auc),
        "num_classes_scored": int((~np.isnan(ap_C)).sum()),
    }


def confusion_matrix(scores_NC: NDArray, targets_NC: NDArray) -> NDArray[np.int64]:
    """Count clips by (first) true class, rows, and best-scored class, columns; (C, C)."""
    num_classes = scores_NC.shape[1]
    flat_N = targets_NC.argmax(axis=1) * num_classes + scores_NC.argmax(axis=1)
    return np.bincount(flat_N, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_accuracies(scores_NC: NDArray, targets_NC: NDArray) -> NDArray[np.float64]:
    """Compute the share of each class's clips that are classified right (C,); NaN without any."""
    confusion_CC = confusion_matrix(scores_NC, targets_NC)
    totals_C = confusion_CC.sum(axis=1)
    return np.where(totals_C > 0, np.diag(confusion_CC) / np.maximum(totals_C, 1), np.nan)
