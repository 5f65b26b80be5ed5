"""95 % intervals over the choice of test clips: not over seeds.

Shares (accuracy, recall) have Wilson's. Average precision and AUC are averages of ranks, and a
resample holds copies of the positives, which raise it: percentiles of a bootstrap lie too high. So
their bias and deviation are taken from the bootstrap on the logit scale, which bounds them by 0
and 1; coverage at 20 positives a class is simulated in tests/unit/evaluate/test_intervals.py. Means
and medians keep the percentiles. Clips of one speaker or video are taken as independent here;
``differences`` can draw them together.

A resample is a vector of counts, so no score is sorted twice: each class is sorted once, and its
average precision and AUC under every resample come from running sums of the counts (exact, ties
included; O(N log N) once, then O(N) per class and resample).

Shape legend: N clips, C classes, P positive clips of a class, R resamples, M measured quantities.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri, stdtrit

from pipeline_src.evaluate.metrics import TOP_K, classification_metrics, d_prime, hits_at
from pipeline_src.modalities import LabelKind

PERCENTILES = (2.5, 97.5)
NORMAL_QUANTILE = float(ndtri(0.975))
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


def share_interval(num_hits: float, num: int) -> Interval:
    """Give a share with Wilson's interval, which has a width where every clip is right, too."""
    share, z2 = num_hits / num, NORMAL_QUANTILE**2
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = math.sqrt(z2 * (share * (1 - share) / num + z2 / (4 * num**2))) / (1 + z2 / num)
    return {"value": share, "low": max(0.0, centre - half), "high": min(1.0, centre + half)}


def rank_interval(
    value: float, samples_R: NDArray, num_positives: int, num_classes: int
) -> Interval:
    """Give a mean average precision or AUC with its interval from bootstrap samples.

    The logit is of values drawn in by half a positive, so that 0 and 1 have one; Student's quantile
    is that of the positives of a class. Where no resample differs, Wilson's interval of as many
    positives stands for it.
    """
    samples_R = samples_R[np.isfinite(samples_R)]
    if not math.isfinite(value) or not samples_R.size:
        return {"value": _finite(value), "low": None, "high": None}
    if np.ptp(samples_R) == 0:
        return {**share_interval(value * num_positives, num_positives), "value": float(value)}
    drawn_in = partial(_draw_in, num=num_positives)
    own, drawn_R = float(drawn_in(np.array(value))), drawn_in(samples_R)
    quantile = float(stdtrit(max(1, num_positives // num_classes - 1), 0.975))
    centre, half = 2 * own - drawn_R.mean(), quantile * drawn_R.std(ddof=1)
    ends = (expit([centre - half, centre + half]) * (num_positives + 1) - 0.5) / num_positives
    low, high = np.clip(ends, 0, 1)
    return {"value": float(value), "low": min(float(low), value), "high": max(float(high), value)}


def _draw_in(values: NDArray, num: int) -> NDArray:
    """Compute logits of values in [0, 1], half of one of ``num`` away from the ends; same shape."""
    return logit((values * num + 0.5) / (num + 1))


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
    scores_NC: NDArray, targets_NC: NDArray, *, task: LabelKind, num_resamples: int, seed: int
) -> dict[str, Interval | int]:
    """Compute ``metrics.classification_metrics`` with an interval around each figure.

    Args:
        num_resamples: of rank figures; 0 gives figures without intervals.

    Returns:
        The same keys; num_classes_scored stays a plain count.
    """
    values = classification_metrics(scores_NC, targets_NC, task)
    num_classes_scored = int(values.pop("num_classes_scored"))
    classes = [
        sort_class(scores_NC[:, index], targets_NC[:, index])
        for index in np.flatnonzero(targets_NC.any(axis=0))
    ]
    num_clips, has_bounds = len(scores_NC), num_resamples > 0
    intervals: dict[str, Interval | int] = {}
    for name, k in (("accuracy", 1), ("top5_accuracy", TOP_K)):
        if name in values:
            hits = float(hits_at(scores_NC, targets_NC, k).sum())
            intervals[name] = share_interval(hits, num_clips) if has_bounds else bare(values[name])
    blocks: dict[str, list[NDArray]] = {name: [np.empty(0)] for name in ("mAP", "mean_auc")}
    for counts_NR in resample_counts(num_clips, num_resamples, seed):
        for name, samples_R in ranking_samples(classes, counts_NR).items():
            blocks[name].append(samples_R)
    sizes = int(targets_NC.sum()), len(classes)
    for name, samples in blocks.items():
        intervals[name] = rank_interval(values[name], np.concatenate(samples), *sizes)
    intervals["d_prime"] = _d_prime_interval(values["d_prime"], intervals["mean_auc"])
    return intervals | {"num_classes_scored": num_classes_scored}


def bare(value: float) -> Interval:
    """Give a figure without bounds."""
    return {"value": _finite(value), "low": None, "high": None}


def _d_prime_interval(value: float, auc: Interval | int) -> Interval:
    """Carry the bounds of the AUC over to d-prime; none where d-prime is infinite."""
    assert isinstance(auc, dict)
    ends = [auc["low"], auc["high"]]
    if not math.isfinite(value) or None in ends:
        return bare(value)
    low, high = (_finite(d_prime(end)) for end in ends if end is not None)
    return {"value": value, "low": low, "high": high}


def ranking_samples(classes: list[SortedClass], counts_NR: NDArray) -> dict[str, NDArray]:
    """Compute mAP and mean AUC (R,) over the classes that each resample leaves defined."""
    num_resamples = counts_NR.shape[1]
    sums_2R = np.zeros((2, num_resamples))
    defined_2R = np.zeros((2, num_resamples), dtype=np.int64)
    for clips in classes:
        for row, samples_R in enumerate(weighted_ap_auc(clips, counts_NR)):
            is_defined_R = np.isfinite(samples_R)
            sums_2R[row] += np.where(is_defined_R, samples_R, 0)
            defined_2R[row] += is_defined_R
    means_2R = np.where(defined_2R > 0, sums_2R / np.maximum(defined_2R, 1), np.nan)
    return {"mAP": means_2R[0], "mean_auc": means_2R[1]}
