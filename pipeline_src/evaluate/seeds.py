"""Means over seeds, with 95 % intervals over both the seeds and the clips.

What a seed changes and which clips were drawn are two sources of chance: their variances are added.
That of seeds is known from few runs, so the quantile is Student's at Satterthwaite's degrees of
freedom (the variance of clips counts as known). Clips are resampled alike for every run, so the
difference of two runs of one seed, resample by resample, is paired in clips and in the seed.

Shape legend: N clips, C classes, R resamples, S seeds.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from pipeline_src.evaluate.differences import grouped_counts, reverse_interval
from pipeline_src.evaluate.intervals import (
    NORMAL_QUANTILE,
    Interval,
    ranking_samples,
    share_interval,
    sort_class,
)
from pipeline_src.evaluate.metrics import check_scores, classification_metrics, hits_at
from pipeline_src.evaluate.records import HEADLINE, Task


class Resampled(NamedTuple):
    """Accuracy or mAP of a run, and what it is under every resample of the clips, (R,)."""

    value: float
    samples_R: NDArray[np.float64]

    def __sub__(self, other: "Resampled") -> "Resampled":
        """Return the paired difference; both are of the same clips, resampled by one seed."""
        return Resampled(self.value - other.value, self.samples_R - other.samples_R)


def resample_headline(
    scores_NC: NDArray,
    targets_NC: NDArray,
    *,
    task: Task,
    num_resamples: int,
    seed: int,
    groups: Sequence[str] | None = None,
) -> Resampled:
    """Compute accuracy or mAP of all clips and of resamples of them.

    Args:
        groups: of each clip, its speaker or source; None = each clip by itself.
    Raises:
        ValueError: the scores are of other clips or classes.
    """
    check_scores(scores_NC, targets_NC, task)
    counts = grouped_counts(len(targets_NC), groups, num_resamples, seed)
    if HEADLINE[task] == "accuracy":
        return _share(hits_at(scores_NC, targets_NC, 1), counts)
    present = np.flatnonzero(targets_NC.any(axis=0))
    classes = [sort_class(scores_NC[:, c], targets_NC[:, c]) for c in present]
    samples = [ranking_samples(classes, counts_NR)["mAP"] for counts_NR in counts]
    value = classification_metrics(scores_NC, targets_NC, task)["mAP"]
    return Resampled(value, np.concatenate(samples))


def resample_recall(ranks_N: NDArray, k: int, *, num_resamples: int, seed: int) -> Resampled:
    """Compute R@k of all queries of a gallery and of resamples of them.

    Args:
        ranks_N: candidates that are better than the query's own partner.
    """
    return _share(ranks_N < k, grouped_counts(len(ranks_N), None, num_resamples, seed))


def _share(hits_N: NDArray, counts: Iterable[NDArray]) -> Resampled:
    hits_N = hits_N.astype(np.float64)
    samples = [hits_N @ counts_NR / counts_NR.sum(axis=0) for counts_NR in counts]
    return Resampled(float(hits_N.mean()), np.concatenate(samples))


def mean_difference_over_seeds(pairs: Sequence[Resampled]) -> Interval:
    """Average paired differences over seeds; of one seed the interval is over clips alone."""
    if len(pairs) == 1:
        return reverse_interval(*pairs[0])
    value, low, high = _around_mean(pairs, 0.0)
    return {"value": value, "low": low, "high": high}


def mean_over_seeds(runs: Sequence[Resampled], num_clips: int) -> Interval:
    """Average a share over two or more seeds; its interval lies within 0 and 1.

    Over clips it is at least as wide as Wilson's, which has a width where every clip is right.
    """
    share = share_interval(num_clips * float(np.mean([run.value for run in runs])), num_clips)
    width = (share["high"] or 0.0) - (share["low"] or 0.0)
    found = _around_mean(runs, (width / 2 / NORMAL_QUANTILE) ** 2)
    low, high = (float(np.clip(end, 0, 1)) for end in found[1:])
    return {"value": found[0], "low": low, "high": high}


def _around_mean(runs: Sequence[Resampled], least_over_clips: float) -> tuple[float, float, float]:
    values_S = np.array([run.value for run in runs])
    samples_SR = np.stack([run.samples_R for run in runs])
    over_seeds = float(values_S.var(ddof=1)) / len(runs)
    over_clips = max(float(np.nanvar(samples_SR.mean(axis=0), ddof=1)), least_over_clips)
    total = over_seeds + over_clips
    freedom = total**2 / over_seeds**2 * (len(runs) - 1) if over_seeds else math.inf
    half = float(t.ppf(0.975, freedom)) * math.sqrt(total)
    mean = float(values_S.mean())
    return mean, mean - half, mean + half
