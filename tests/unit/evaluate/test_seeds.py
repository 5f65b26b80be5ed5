"""Means over seeds: what they are, and how often their intervals hold the truth."""

import numpy as np
import pytest

from pipeline_src.evaluate.differences import headline_difference
from pipeline_src.evaluate.intervals import share_interval
from pipeline_src.evaluate.records import Estimate
from pipeline_src.evaluate.seeds import (
    Resampled,
    SeedVariance,
    mean_difference_over_seeds,
    mean_of_estimates,
    mean_over_seeds,
    pool_seed_variance,
    resample_headline,
)

NUM_CLIPS, NUM_CLASSES = 120, 4
OPTIONS = {"num_resamples": 300, "seed": 0}


def make_scores(rng, targets, signal):
    return rng.random(targets.shape) + signal * targets


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("groups", [None, [str(clip // 4) for clip in range(NUM_CLIPS)]])
def test_of_one_seed_it_is_the_difference_of_two_runs(task, groups):
    rng = np.random.default_rng(0)
    targets = np.eye(NUM_CLASSES, dtype=int)[rng.integers(NUM_CLASSES, size=NUM_CLIPS)]
    ours, theirs = make_scores(rng, targets, 0.5), make_scores(rng, targets, 0.2)
    options = {**OPTIONS, "task": task, "groups": groups}
    pair = [resample_headline(scores, targets, **options) for scores in (ours, theirs)]
    found = mean_difference_over_seeds([pair[0] - pair[1]])
    expected = headline_difference(ours, theirs, targets, **options)
    assert found == pytest.approx(expected)


def test_a_mean_has_the_chance_of_seeds_and_of_clips():
    still = np.zeros(50)
    alike = [Resampled(0.5, 0.5 + still), Resampled(0.5, 0.5 + still)]
    assert mean_difference_over_seeds(alike) == {"value": 0.5, "low": 0.5, "high": 0.5}
    apart = mean_difference_over_seeds([Resampled(0.4, 0.4 + still), Resampled(0.6, 0.6 + still)])
    # Student's of one degree of freedom, 12.706, times the error of a mean of two, 0.1.
    assert apart["low"] == pytest.approx(0.5 - 1.2706, abs=1e-3)
    swinging = np.tile([-0.05, 0.05], 25)
    clips = mean_difference_over_seeds([Resampled(0.5, 0.5 + swinging)] * 2)
    assert clips["high"] == pytest.approx(0.5 + 1.96 * 0.05, abs=0.002)


def test_a_share_stays_within_its_bounds_and_has_a_width_where_all_is_right():
    right = [Resampled(1.0, np.ones(50))] * 3
    found = mean_over_seeds(right, num_clips=50)
    assert (found["value"], found["high"]) == (1.0, 1.0)
    assert 0.9 < found["low"] < 0.99


def test_intervals_of_differences_hold_the_truth():
    """Clips are of unequal difficulty, seeds move the skill of a run: three seeds, two arms."""
    rng = np.random.default_rng(1)
    gain, spread, trials, num_seeds, held = 0.06, 0.03, 300, 3, 0
    counts = rng.multinomial(NUM_CLIPS, np.full(NUM_CLIPS, 1 / NUM_CLIPS), size=200).T
    for _ in range(trials):
        ease = rng.uniform(0.2, 0.8, NUM_CLIPS)
        skills = rng.normal([0, gain], spread, (num_seeds, 2)).clip(-0.19, 0.19)
        hits = rng.random((num_seeds, 2, NUM_CLIPS)) < ease + skills[..., None]
        runs = [
            [Resampled(float(one.mean()), one @ counts / NUM_CLIPS) for one in pair]
            for pair in hits
        ]
        found = mean_difference_over_seeds([ours - theirs for theirs, ours in runs])
        held += found["low"] <= gain <= found["high"]
    assert held / trials >= 0.92


@pytest.mark.parametrize("confidence", [0.95, 1 - 0.05 / 7])
def test_with_the_seeds_of_all_arms_intervals_hold_the_truth_and_are_narrower(confidence):
    """Seeds move a run more than the clips do: three of each of four arms, one after another."""
    rng = np.random.default_rng(3)
    num_clips, gain, spread, trials, held, widths = 500, 0.06, 0.05, 300, 0, []
    counts = rng.multinomial(num_clips, np.full(num_clips, 1 / num_clips), size=100).T
    for _ in range(trials):
        skills = rng.normal([0.4, 0.4 + gain, 0.5, 0.3], spread, (3, 4))
        hits = rng.random((3, 4, num_clips)) < skills[..., None]
        pairs = [
            Resampled(float(pair.mean()), pair @ counts / num_clips)
            for pair in hits[:, 1].astype(float) - hits[:, 0]
        ]
        pooled = pool_seed_variance(hits.mean(axis=2).T.tolist())
        ways = [mean_difference_over_seeds(pairs, confidence, way) for way in (pooled, None)]
        held += ways[0]["low"] <= gain <= ways[0]["high"]
        widths.append([way["high"] - way["low"] for way in ways])
    assert held / trials >= confidence - 0.02
    assert np.less(*np.mean(widths, axis=0))


def test_the_variance_of_seeds_is_pooled_over_arms_with_several():
    assert pool_seed_variance([[0.1, 0.3], [0.5], [0.2, 0.2, 0.2]]) == SeedVariance(
        pytest.approx(0.02 / 3), 3
    )
    assert pool_seed_variance([[0.1], []]) is None


def test_figures_without_values_of_clips_have_an_interval_that_holds_the_truth():
    """As above, of the intervals of single seeds alone; clips are hard for all seeds alike."""
    rng = np.random.default_rng(2)
    trials, num_seeds, held, widths = 300, 3, 0, []
    for _ in range(trials):
        skill = 0.5 + 0.03 * rng.standard_normal(num_seeds)
        ease = rng.uniform(-0.4, 0.4, NUM_CLIPS)
        hits = rng.random((num_seeds, NUM_CLIPS)) < skill[:, None] + ease
        runs = [Estimate.model_validate(share_interval(row.sum(), NUM_CLIPS)) for row in hits]
        found = mean_of_estimates(runs, largest=1)
        held += found["low"] <= 0.5 <= found["high"]
        widths.append(found["high"] - found["low"])
    assert held / trials > 0.93
    assert np.mean(widths) < 0.4


def test_a_mean_of_estimates_keeps_its_bounds_and_says_where_it_has_none():
    perfect = [Estimate(value=1.0, low=0.9, high=1.0)] * 2
    found = mean_of_estimates(perfect, largest=1)
    assert (found["value"], found["high"]) == (1.0, 1.0)
    assert found["low"] == pytest.approx(0.95)
    bare = mean_of_estimates([*perfect, Estimate(value=0.7)], largest=1)
    assert bare == {"value": pytest.approx(0.9), "low": None, "high": None}
    assert mean_of_estimates([Estimate(value=None)] * 2)["value"] is None
