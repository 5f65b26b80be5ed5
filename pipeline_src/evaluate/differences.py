"""Differences between two sets of scores of the same clips, by a paired bootstrap.

Both are resampled alike, so what makes a clip hard for both cancels. Clips that share a speaker or
a source are drawn together where groups are given. Shape legend: N clips, C classes, R resamples.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline_src.evaluate.intervals import (
    Interval,
    bare,
    make_interval,
    ranking_samples,
    resample_counts,
    sort_class,
)
from pipeline_src.evaluate.metrics import check_scores, classification_metrics, hits_at
from pipeline_src.evaluate.records import HEADLINE
from pipeline_src.modalities import LabelKind


def headline_difference(
    ours_NC: NDArray,
    theirs_NC: NDArray,
    targets_NC: NDArray,
    *,
    task: LabelKind,
    num_resamples: int,
    seed: int,
    groups: Sequence[str] | None = None,
) -> Interval:
    """Compute by how much ``ours_NC`` is better in accuracy or mAP, with its 95 % interval.

    The interval is the reverse percentile one, in which the bias that copies of positives give
    both figures cancels. No resamples: no bounds.

    Args:
        groups: of each clip, its speaker or source; None = each clip by itself.
    Raises:
        ValueError: the scores are of other clips or classes.
    """
    pair = (ours_NC, theirs_NC)
    for scores_NC in pair:
        check_scores(scores_NC, targets_NC, task)
    ours, theirs = (classification_metrics(x, targets_NC, task)[HEADLINE[task]] for x in pair)
    if not num_resamples:
        return bare(ours - theirs)
    if HEADLINE[task] == "accuracy":
        hits = [hits_at(x, targets_NC, 1).astype(np.float64) for x in pair]
        return mean_difference(*hits, num_resamples=num_resamples, seed=seed, groups=groups)
    present = np.flatnonzero(targets_NC.any(axis=0))
    sides = [[sort_class(x[:, c], targets_NC[:, c]) for c in present] for x in pair]
    samples = []
    for counts_NR in grouped_counts(len(targets_NC), groups, num_resamples, seed):
        first, second = (ranking_samples(classes, counts_NR)["mAP"] for classes in sides)
        samples.append(first - second)
    return reverse_interval(ours - theirs, np.concatenate(samples))


def mean_difference(
    ours_N: NDArray,
    theirs_N: NDArray,
    *,
    num_resamples: int,
    seed: int,
    groups: Sequence[str] | None = None,
) -> Interval:
    """Compute the difference of the means of two values a clip, with its 95 % interval."""
    differences_N = np.asarray(ours_N, np.float64) - np.asarray(theirs_N, np.float64)
    samples = [np.empty(0)]
    for counts_NR in grouped_counts(len(differences_N), groups, num_resamples, seed):
        samples.append(differences_N @ counts_NR / counts_NR.sum(axis=0))
    return reverse_interval(float(differences_N.mean()), np.concatenate(samples))


def grouped_counts(
    num_clips: int, groups: Sequence[str] | None, num_resamples: int, seed: int
) -> Iterator[NDArray[np.int32]]:
    """Yield (N, R) blocks: how often each clip is drawn, clips of a group together."""
    if groups is None:
        yield from resample_counts(num_clips, num_resamples, seed)
        return
    names, group_N = np.unique(np.asarray(groups), return_inverse=True)
    for counts_GR in resample_counts(len(names), num_resamples, seed):
        yield np.ascontiguousarray(counts_GR[group_N])


def reverse_interval(value: float, samples_R: NDArray) -> Interval:
    """Turn the percentile interval round the value."""
    plain = make_interval(value, samples_R)
    if plain["low"] is None or plain["high"] is None:
        return plain
    return {"value": value, "low": 2 * value - plain["high"], "high": 2 * value - plain["low"]}
