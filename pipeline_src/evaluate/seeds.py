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
from scipy.special import stdtrit

from pipeline_src.evaluate.differences import grouped_counts, reverse_interval
from pipeline_src.evaluate.intervals import (
    NORMAL_QUANTILE,
    Interval,
    bare,
    ranking_samples,
    share_interval,
    sort_class,
)
from pipeline_src.evaluate.metrics import check_scores, classification_metrics, hits_at
from pipeline_src.evaluate.records import HEADLINE, Estimate
from pipeline_src.modalities import LabelKind

CONFIDENCE = 0.95


class Resampled(NamedTuple):
    """Accuracy or mAP of a run, and what it is under every resample of the clips, (R,)."""

    value: float
    samples_R: NDArray[np.float64]

    def __sub__(self, other: "Resampled") -> "Resampled":
        """Return the paired difference; both are of the same clips, resampled by one seed."""
        return Resampled(self.value - other.value, self.samples_R - other.samples_R)


class SeedVariance(NamedTuple):
    """Variance of one run's figure over seeds, and with how many degrees of freedom it is known."""

    value: float
    freedom: int


def pool_seed_variance(arms: Iterable[Sequence[float]]) -> SeedVariance | None:
    """Pool the variance over seeds of arms that are taken to vary alike; None of single runs.

    Three seeds of one arm tell it with 2 degrees of freedom, those of seven arms with 14.
    """
    groups = [values for values in arms if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    squares = sum((len(values) - 1) * float(np.var(values, ddof=1)) for values in groups)
    return SeedVariance(squares / freedom, freedom)


def resample_headline(
    scores_NC: NDArray,
    targets_NC: NDArray,
    *,
    task: LabelKind,
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


def resample_share(hits_N: NDArray, *, num_resamples: int, seed: int) -> Resampled:
    """Compute the share of clips that are hit, of all and of resamples of them."""
    return _share(hits_N, grouped_counts(len(hits_N), None, num_resamples, seed))


def _share(hits_N: NDArray, counts: Iterable[NDArray]) -> Resampled:
    hits_N = hits_N.astype(np.float64)
    samples = [hits_N @ counts_NR / counts_NR.sum(axis=0) for counts_NR in counts]
    return Resampled(float(hits_N.mean()), np.concatenate(samples))


def mean_difference_over_seeds(
    pairs: Sequence[Resampled],
    confidence: float = CONFIDENCE,
    of_a_run: SeedVariance | None = None,
) -> Interval:
    """Average paired differences over seeds; of one seed the interval is over clips alone.

    Args:
        confidence: of the interval over several seeds, e.g. for many comparisons at once.
        of_a_run: variance over seeds from more runs than these; a difference has twice that, or
            less where what runs of one seed share moves both. None = that of the differences.
    """
    if len(pairs) == 1:
        return reverse_interval(*pairs[0])
    values = [pair.value for pair in pairs]
    pooled = of_a_run and SeedVariance(2 * of_a_run.value, of_a_run.freedom)
    value, low, high = _around_mean(values, _over_clips(pairs), confidence, pooled)
    return {"value": value, "low": low, "high": high}


def mean_over_seeds(runs: Sequence[Resampled], num_clips: int) -> Interval:
    """Average a share over two or more seeds; its interval lies within 0 and 1.

    Over clips it is at least as wide as Wilson's, which has a width where every clip is right.
    """
    share = share_interval(num_clips * float(np.mean([run.value for run in runs])), num_clips)
    width = (share["high"] or 0.0) - (share["low"] or 0.0)
    over_clips = max(_over_clips(runs), (width / 2 / NORMAL_QUANTILE) ** 2)
    value, low, high = _around_mean([run.value for run in runs], over_clips)
    return {"value": value, "low": max(0.0, low), "high": min(1.0, high)}


def mean_of_estimates(estimates: Sequence[Estimate], largest: float = math.inf) -> Interval:
    """Average figures over two or more seeds whose values on each clip are not known.

    The clips count as if they moved all seeds alike, which is the most that they can: a mean moves
    at most as far as its parts do on average. Without the intervals of all there is none.

    Args:
        largest: that the figure can be; the smallest is 0.
    """
    values = [one.value for one in estimates if one.value is not None]
    if len(values) < len(estimates):
        return bare(math.nan)
    known = [(one.low, one.high) for one in estimates]
    widths = [high - low for low, high in known if low is not None and high is not None]
    if len(widths) < len(estimates):
        return bare(float(np.mean(values)))
    over_clips = (float(np.mean(widths)) / 2 / NORMAL_QUANTILE) ** 2
    value, low, high = _around_mean(values, over_clips)
    return {"value": value, "low": max(0.0, low), "high": min(largest, high)}


def _over_clips(runs: Sequence[Resampled]) -> float:
    """Compute the variance of the runs' mean over the choice of clips."""
    samples_SR = np.stack([run.samples_R for run in runs])
    return float(np.nanvar(samples_SR.mean(axis=0), ddof=1))


def _around_mean(
    values_S: Sequence[float],
    over_clips: float,
    confidence: float = CONFIDENCE,
    seeds: SeedVariance | None = None,
) -> tuple[float, float, float]:
    """Return the mean and the ends of its interval; None = the variance of these seeds alone."""
    seeds = seeds or SeedVariance(float(np.var(values_S, ddof=1)), len(values_S) - 1)
    over_seeds = seeds.value / len(values_S)
    total = over_seeds + over_clips
    freedom = total**2 / over_seeds**2 * seeds.freedom if over_seeds else math.inf
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(total)
    mean = float(np.mean(values_S))
    return mean, mean - half, mean + half
