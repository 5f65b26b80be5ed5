"""Intervals cover what they claim to; shares have a width at their ends."""

import numpy as np
import pytest

from pipeline_src.evaluate.differences import grouped_counts, headline_difference, mean_difference
from pipeline_src.evaluate.intervals import classification_intervals, share_interval
from pipeline_src.evaluate.metrics import average_precisions

NUM_CLASSES, NUM_POSITIVES, NUM_TRIALS = 5, 20, 200


def make_clips(rng, num_positives, separation=1.5):
    """Scores whose own class stands out by ``separation`` deviations, and targets."""
    targets = np.repeat(np.eye(NUM_CLASSES, dtype=int), num_positives, axis=0)
    return rng.standard_normal(targets.shape) + separation * targets, targets


@pytest.mark.slow
@pytest.mark.parametrize("separation", [1.5, 3.0])
def test_the_interval_of_map_covers_the_population_at_20_positives_a_class(separation):
    population = np.mean(
        [
            average_precisions(*make_clips(np.random.default_rng(1000 + n), 2000, separation))
            for n in range(4)
        ]
    )
    covered = []
    for trial in range(NUM_TRIALS):
        clips = make_clips(np.random.default_rng(trial), NUM_POSITIVES, separation)
        found = classification_intervals(*clips, task="multiclass", num_resamples=128, seed=0)
        covered.append(found["mAP"]["low"] <= population <= found["mAP"]["high"])
    assert np.mean(covered) >= 0.90


def test_a_share_has_wilsons_interval():
    six = share_interval(6, 6)
    assert (six["value"], six["high"]) == (1.0, 1.0)
    assert six["low"] == pytest.approx(0.610, abs=1e-3)
    assert share_interval(0, 6)["high"] == pytest.approx(0.390, abs=1e-3)


def test_perfect_ranks_have_a_width_too():
    targets = np.repeat(np.eye(3, dtype=int), 4, axis=0)
    found = classification_intervals(
        targets * 1.0, targets, task="multiclass", num_resamples=50, seed=0
    )
    assert (found["mAP"]["value"], found["mAP"]["high"]) == (1.0, 1.0)
    assert found["mAP"]["low"] == pytest.approx(share_interval(12, 12)["low"])


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_paired_difference_is_narrower_than_two_intervals(task):
    rng = np.random.default_rng(0)
    scores, targets = make_clips(rng, 60)
    better = scores + 0.3 * targets
    options = {"task": task, "num_resamples": 256, "seed": 0}
    gain = headline_difference(better, scores, targets, **options)
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    nothing = headline_difference(scores, scores, targets, **options)
    assert (nothing["low"], nothing["value"], nothing["high"]) == (0, 0, 0)
    alone = classification_intervals(scores, targets, **options)
    name = "accuracy" if task == "multiclass" else "mAP"
    assert gain["high"] - gain["low"] < alone[name]["high"] - alone[name]["low"]


def make_pair(rng, num_positives):
    """Scores of a model, of one that adds noise to them, and targets."""
    scores, targets = make_clips(rng, num_positives, 3.0)
    return scores, scores + 2 * rng.standard_normal(scores.shape), targets


@pytest.mark.slow
def test_the_difference_of_map_covers_that_of_the_population():
    """One that is not 0, where an interval that is off-centre would cover too."""
    differences = []
    for n in range(4):
        better, worse, targets = make_pair(np.random.default_rng(1000 + n), 2000)
        both = (average_precisions(scores, targets).mean() for scores in (better, worse))
        differences.append(next(both) - next(both))
    population = np.mean(differences)
    assert population > 0.2
    below, above = 0, 0
    for trial in range(NUM_TRIALS):
        clips = make_pair(np.random.default_rng(trial), NUM_POSITIVES)
        found = headline_difference(*clips, task="multilabel", num_resamples=128, seed=0)
        below += population < found["low"]
        above += population > found["high"]
    assert below + above <= 0.1 * NUM_TRIALS
    assert max(below, above) <= 0.08 * NUM_TRIALS  # about as often on either side


def test_clips_of_a_group_are_drawn_together():
    groups = ["a", "a", "b", "c", "c", "c"]
    for counts in grouped_counts(6, groups, 10, seed=0):
        assert (counts[0] == counts[1]).all()
        assert (counts[3] == counts[4]).all()
        assert (counts[[0, 2, 3]].sum(axis=0) == 3).all()
    values = np.repeat(np.random.default_rng(0).standard_normal(50), 10)
    options = {"num_resamples": 500, "seed": 0}
    alone = mean_difference(values, np.zeros(500), **options)
    grouped = mean_difference(
        values, np.zeros(500), groups=[str(n // 10) for n in range(500)], **options
    )
    width, wider = (one["high"] - one["low"] for one in (alone, grouped))
    assert wider == pytest.approx(width * 10**0.5, rel=0.25)  # ten copies say no more than one
