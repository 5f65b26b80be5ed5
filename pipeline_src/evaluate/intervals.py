"""Bootstrap 95 % intervals: clips are drawn with replacement, the 2.5 and 97.5 percentiles kept.

They cover the choice of test clips only: not the seed of a run, and not the speakers or videos that
several clips may share.

A resample is a vector of counts, so no score is sorted twice: each class is sorted once, and its
average precision and AUC under every resample come from running sums of the counts (exact, ties
included; O(N log N) once, then O(N) per class and resample).

Shape legend: N clips, C classes, P positive clips of a class, R resamples, M measured quantities.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from pipeline_src.evaluate.metrics import TOP_K, classification_metrics, hits_at
from pipeline_src.evaluate.records import Task

PERCENTILES = (2.5, 97.5)
RESAMPLES_PER_BLOCK = 128  # bounds memory, and keeps the running sums in cache


class Interval(TypedDict):
    """A figure with its 95 % interval; None where undefined or infinite, which JSON cannot say."""

    value: float | None
    low: float | None
    high: float | None


def make_interval(value: float, samples_R: NDArray) -> Interval:
    """Take the percentile interval of ``samples_R``; NaN samples (undefined) are left out."""
    low, high = math.nan, math.nan
    samples_R = samples_R[~np.isnan(samples_R)]
    if samples_R.size:
        low, high = np.percentile(samples_R, PERCENTILES, method="closest_observation")
    return {"value": _finite(value), "low": _finite(low), "high": _finite(high)}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def resample_counts(num: int, num_resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    """Yield (N, R) blocks: how often each of ``num`` items is drawn in each resample."""
    rng = np.random.default_rng(seed)
    for start in range(0, num_resamples, RESAMPLES_PER_BLOCK):
        size = min(RESAMPLES_PER_BLOCK, num_resamples - start)
        drawn_RN = rng.integers(0, num, (size, num)) + num * np.arange(size)[:, None]
        counts_RN = np.bincount(drawn_RN.ravel(), minlength=size * num).reshape(size, num)
        yield np.ascontiguousarray(counts_RN.T, dtype=np.int32)


def bootstrap_means(values_NM: NDArray, *, num_resamples: int, seed: int) -> list[Interval]:
    """Bootstrap the mean of each column, e.g. hits or squared errors of N clips; M intervals.

    Raises:
        ValueError: there is no clip, or not one row a clip.
    """
    values_NM = np.asarray(values_NM, dtype=np.float64)
    if values_NM.ndim != 2 or values_NM.shape[0] == 0:
        raise ValueError(f"expected (clips, quantities) with clips, got {values_NM.shape}")
    blocks = [
        counts_NR.T @ values_NM / len(values_NM)
        for counts_NR in resample_counts(len(values_NM), num_resamples, seed)
    ]
    samples_RM = np.concatenate(blocks) if blocks else np.empty((0, values_NM.shape[1]))
    means_M = values_NM.mean(axis=0)
    return [make_interval(mean, samples_RM[:, m]) for m, mean in enumerate(means_M)]


class SortedClass(NamedTuple):
    """One class's clips in descending score order, and where its positives stand.

    Args:
        order_N: clip of each position.
        positives_P: clip of each positive, best score first.
        start_P, end_P: positions [start, end) of the clips that tie with each positive.
        positive_start_P, positive_end_P: the same, counted among the positives.
    """

    order_N: NDArray
    positives_P: NDArray
    start_P: NDArray
    end_P: NDArray
    positive_start_P: NDArray
    positive_end_P: NDArray


def sort_class(scores_N: NDArray, targets_N: NDArray) -> SortedClass:
    """Sort one class's clips once for every resample."""
    order_N = np.argsort(-scores_N, kind="stable").astype(np.int32)
    falling_N = -scores_N[order_N]
    positives_P = order_N[targets_N[order_N] == 1]
    own_P = -scores_N[positives_P]
    return SortedClass(
        order_N,
        positives_P,
        np.searchsorted(falling_N, own_P, "left"),
        np.searchsorted(falling_N, own_P, "right"),
        np.searchsorted(own_P, own_P, "left"),
        np.searchsorted(own_P, own_P, "right"),
    )


def weighted_ap_auc(clips: SortedClass, counts_NR: NDArray) -> tuple[NDArray, NDArray]:
    """Compute average precision and AUC of one class per resample, both (R,); NaN = undefined."""
    all_NR = _running_sum(counts_NR[clips.order_N])
    weight_PR = counts_NR[clips.positives_P]
    positive_PR = _running_sum(weight_PR)
    num_R, num_positive_R = all_NR[-1], positive_PR[-1].astype(np.float64)
    all_to_end_PR = all_NR[clips.end_P]
    positive_to_end_PR = positive_PR[clips.positive_end_P]
    negative_to_end_PR = all_to_end_PR - positive_to_end_PR
    negative_ahead_PR = all_NR[clips.start_P] - positive_PR[clips.positive_start_P]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_PR = positive_to_end_PR / np.maximum(all_to_end_PR, 1)
        ap_R = (weight_PR * precision_PR).sum(axis=0) / num_positive_R
        beaten_by_PR = (negative_ahead_PR + negative_to_end_PR) / 2  # a tie counts half
        beaten_R = (weight_PR * beaten_by_PR).sum(axis=0)
        auc_R = 1 - beaten_R / (num_positive_R * (num_R - num_positive_R))
    return ap_R, auc_R


def _running_sum(counts: NDArray) -> NDArray:
    """Sum the first 0, 1, .. all rows of (N, R); (N + 1, R)."""
    sums = np.zeros((counts.shape[0] + 1, counts.shape[1]), dtype=np.int32)
    np.cumsum(counts, axis=0, out=sums[1:])
    return sums


def classification_intervals(
    scores_NC: NDArray, targets_NC: NDArray, *, task: Task, num_resamples: int, seed: int
) -> dict[str, Interval | int]:
    """Compute ``metrics.classification_metrics`` with an interval around each figure.

    Args:
        num_resamples: 0 gives figures without intervals.

    Returns:
        The same keys; num_classes_scored stays a plain count.
    """
    values = classification_metrics(scores_NC, targets_NC, task)
    num_classes_scored = int(values.pop("num_classes_scored"))
    classes = [
        sort_class(scores_NC[:, index], targets_NC[:, index])
        for index in np.flatnonzero(targets_NC.any(axis=0))
    ]
    hits = {}
    if "accuracy" in values:
        hits["accuracy"] = hits_at(scores_NC, targets_NC, 1).astype(np.float64)
    if "top5_accuracy" in values:
        hits["top5_accuracy"] = hits_at(scores_NC, targets_NC, TOP_K).astype(np.float64)
    blocks: dict[str, list[NDArray]] = {name: [np.empty(0)] for name in values}
    for counts_NR in resample_counts(len(scores_NC), num_resamples, seed):
        for name, hits_N in hits.items():
            blocks[name].append(hits_N @ counts_NR / len(hits_N))
        for name, samples_R in _ranking_samples(classes, counts_NR).items():
            blocks[name].append(samples_R)
    intervals: dict[str, Interval | int] = {
        name: make_interval(value, np.concatenate(blocks[name])) for name, value in values.items()
    }
    return intervals | {"num_classes_scored": num_classes_scored}


def _ranking_samples(classes: list[SortedClass], counts_NR: NDArray) -> dict[str, NDArray]:
    """Compute mAP, mean AUC and d-prime (R,) over the classes that each resample leaves defined."""
    num_resamples = counts_NR.shape[1]
    sums_2R = np.zeros((2, num_resamples))
    defined_2R = np.zeros((2, num_resamples), dtype=np.int64)
    for clips in classes:
        for row, samples_R in enumerate(weighted_ap_auc(clips, counts_NR)):
            is_defined_R = np.isfinite(samples_R)
            sums_2R[row] += np.where(is_defined_R, samples_R, 0)
            defined_2R[row] += is_defined_R
    means_2R = np.where(defined_2R > 0, sums_2R / np.maximum(defined_2R, 1), np.nan)
    d_prime_R = math.sqrt(2) * norm.ppf(means_2R[1])
    return {"mAP": means_2R[0], "mean_auc": means_2R[1], "d_prime": d_prime_R}
