"""Metrics and intervals on inputs whose answer is known."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline_src.evaluate.intervals import (
    bootstrap_means,
    classification_intervals,
    resample_counts,
    sort_class,
    weighted_ap_auc,
)
from pipeline_src.evaluate.metrics import (
    average_precisions,
    check_scores,
    class_accuracies,
    classification_metrics,
    confusion_matrix,
    hits_at,
)


def one_hot(labels, num_classes):
    return np.eye(num_classes, dtype=int)[labels]


@pytest.fixture
def noisy():
    """300 clips of 8 classes whose scores point the right way about half of the time."""
    rng = np.random.default_rng(0)
    targets = one_hot(rng.integers(0, 8, 300), 8)
    return rng.standard_normal((300, 8)) + 1.5 * targets, targets


def test_perfect_scores():
    targets = one_hot(np.arange(12) % 6, 6)
    values = classification_metrics(targets.astype(float), targets, "multiclass")
    assert values["accuracy"] == values["top5_accuracy"] == values["mAP"] == 1
    assert values["mean_auc"] == 1
    assert math.isinf(values["d_prime"])


def test_constant_scores_earn_chance_and_no_more():
    targets = one_hot(np.arange(60) % 6, 6)
    values = classification_metrics(np.zeros((60, 6)), targets, "multiclass")
    assert values["accuracy"] == pytest.approx(1 / 6)
    assert values["top5_accuracy"] == pytest.approx(5 / 6)
    assert values["mean_auc"] == 0.5
    assert values["d_prime"] == 0


def test_top5_is_left_out_where_it_says_nothing():
    targets = one_hot(np.arange(10) % 5, 5)
    assert "top5_accuracy" not in classification_metrics(targets * 1.0, targets, "multiclass")


def test_class_without_positives_is_left_out_and_counted():
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    values = classification_metrics(targets * 1.0, targets, "multilabel")
    assert values["num_classes_scored"] == 2
    assert values["mAP"] == 1
    assert set(values) == {"mAP", "mean_auc", "d_prime", "num_classes_scored"}
    assert np.isnan(average_precisions(targets * 1.0, targets)[2])


def test_hits_break_ties_as_argmax_does(noisy):
    scores, targets = np.round(noisy[0]), noisy[1]
    expected = scores.argmax(axis=1) == targets.argmax(axis=1)
    np.testing.assert_array_equal(hits_at(scores, targets, 1), expected)


def test_confusion_matrix_and_class_accuracies():
    targets = one_hot([0, 0, 1, 1], 3)
    scores = one_hot([0, 1, 1, 1], 3) * 1.0
    np.testing.assert_array_equal(
        confusion_matrix(scores, targets), [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    )
    np.testing.assert_array_equal(class_accuracies(scores, targets), [0.5, 1, np.nan])


@pytest.mark.parametrize(
    ("scores", "targets", "task", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), "multilabel", r"\(2, 3\) and targets \(2, 2\)"),
        (np.full((2, 2), np.nan), np.eye(2), "multiclass", "2 of 2 clips"),
        (np.zeros((2, 2)), np.ones((2, 2)), "multiclass", "task: multilabel"),
        (np.zeros((2, 2)), np.eye(2) * 2, "multilabel", "0 or 1"),
        (np.zeros((2, 2)), np.eye(2), "binary", "'binary'"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "multilabel", r"\(0, 2\)"),
    ],
)
def test_unusable_scores_are_refused(scores, targets, task, message):
    with pytest.raises(ValueError, match=message):
        check_scores(scores, targets, task)


@pytest.mark.parametrize("decimals", [6, 0], ids=["distinct", "tied"])
def test_weighted_ap_and_auc_equal_scikit_learn_on_the_resampled_clips(noisy, decimals):
    scores, targets = np.round(noisy[0][:, 0], decimals), noisy[1][:, 0]
    counts = next(resample_counts(len(scores), num_resamples=7, seed=3))
    ap, auc = weighted_ap_auc(sort_class(scores, targets), counts)
    for column in range(7):
        drawn = np.repeat(np.arange(len(scores)), counts[:, column])
        assert ap[column] == pytest.approx(average_precision_score(targets[drawn], scores[drawn]))
        assert auc[column] == pytest.approx(roc_auc_score(targets[drawn], scores[drawn]))


def test_resample_without_a_positive_is_undefined():
    clips = sort_class(np.array([0.1, 0.2]), np.array([1, 0]))
    ap, auc = weighted_ap_auc(clips, np.array([[0, 2], [2, 0]], dtype=np.int32))
    assert np.isnan(ap[0])
    assert np.isnan(auc).all()


def test_intervals_hold_the_figure_and_have_the_binomial_width(noisy):
    scores, targets = noisy
    values = classification_metrics(scores, targets, "multiclass")
    intervals = classification_intervals(
        scores, targets, task="multiclass", num_resamples=1000, seed=0
    )
    assert intervals.keys() == values.keys()
    for name in ("accuracy", "top5_accuracy", "mAP", "mean_auc", "d_prime"):
        assert intervals[name]["value"] == pytest.approx(values[name])
        assert intervals[name]["low"] < values[name] < intervals[name]["high"]
    share = values["accuracy"]
    width = intervals["accuracy"]["high"] - intervals["accuracy"]["low"]
    assert width == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / 300), rel=0.1)


def test_intervals_depend_on_the_seed_alone(noisy):
    def measure(seed):
        return classification_intervals(*noisy, task="multiclass", num_resamples=50, seed=seed)

    assert measure(1) == measure(1)
    assert measure(1) != measure(2)


def test_infinite_and_missing_figures_are_none():
    targets = one_hot(np.arange(12) % 3, 3)
    kept = classification_intervals(
        targets * 1.0, targets, task="multiclass", num_resamples=20, seed=0
    )
    assert kept["d_prime"] == {"value": None, "low": None, "high": None}
    bare = classification_intervals(
        targets * 1.0, targets, task="multiclass", num_resamples=0, seed=0
    )
    assert bare["accuracy"] == {"value": 1.0, "low": None, "high": None}


def test_bootstrap_of_means_covers_each_column():
    values = np.random.default_rng(0).normal([2.0, -1.0], 1.0, (400, 2))
    for interval, mean in zip(
        bootstrap_means(values, num_resamples=500, seed=0), values.mean(axis=0), strict=True
    ):
        assert interval["value"] == pytest.approx(mean)
        assert interval["high"] - interval["low"] == pytest.approx(2 * 1.96 / 20, rel=0.15)
    with pytest.raises(ValueError, match="clips"):
        bootstrap_means(np.empty((0, 1)), num_resamples=5, seed=0)
