"""Probes on features with a planted class signal, and without one."""

import numpy as np
import pytest

from pipeline_src.evaluate.probes import (
    LabelledFeatures,
    choose_strength,
    headline,
    hold_out,
    knn_scores,
    linear_scores,
    probe_scores,
)

CENTRES = np.random.default_rng(42).standard_normal((4, 12))


def clips(num_clips, seed, signal, num_classes=4):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_clips) % num_classes
    features = rng.standard_normal((num_clips, 12)) + signal * CENTRES[labels]
    return LabelledFeatures(features, np.eye(num_classes, dtype=int)[labels])


def probe(signal, task="multiclass", val=None):
    """Return the interval of each probe's accuracy or mAP, with what was chosen."""
    train, test = clips(120, 0, signal), clips(80, 1, signal)
    found = probe_scores(train=train, test=test, val=val, task=task, num_neighbours=10, seed=0)
    options = {"task": task, "num_resamples": 200, "seed": 0}
    return {
        kind: {**headline(one.scores_NC, test.targets_NC, **options), **one.chosen}
        for kind, one in found.items()
    }


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_planted_signal_is_found_and_noise_is_at_chance(kind):
    informative, noise = probe(signal=2.0)[kind], probe(signal=0.0)[kind]
    assert informative["value"] > 0.9
    assert noise["low"] < 0.25 < noise["high"] + 0.1
    assert informative["low"] > noise["high"]


def test_multilabel_is_scored_by_map():
    found = probe(signal=2.0, task="multilabel", val=clips(40, 2, 2.0))
    assert found["linear"]["value"] > 0.9


def test_features_of_any_scale_give_the_same_linear_probe():
    train, test = clips(120, 0, 1.0), clips(40, 1, 1.0)
    scaled = LabelledFeatures(train.features_ND * 1000, train.targets_NC)
    np.testing.assert_allclose(
        linear_scores(train, test.features_ND, task="multiclass", inverse_strength=0.1),
        linear_scores(scaled, test.features_ND * 1000, task="multiclass", inverse_strength=0.1),
        atol=1e-4,
    )


def test_class_unseen_in_training_scores_zero():
    labels = np.array([0, 2, 0, 2, 0, 2])
    features = np.random.default_rng(0).standard_normal((6, 12)) + 3 * CENTRES[labels]
    train = LabelledFeatures(features, np.eye(4, dtype=int)[labels])
    for task in ("multiclass", "multilabel"):
        scores = linear_scores(train, train.features_ND, task=task, inverse_strength=1.0)
        assert scores.shape == (6, 4)
        assert (scores[:, [1, 3]] == 0).all()
        np.testing.assert_array_equal(scores.argmax(axis=1), labels)


def test_single_class_and_ever_present_class_are_constant():
    targets = np.zeros((5, 2), dtype=int)
    targets[:, 1] = 1
    train = LabelledFeatures(np.random.default_rng(0).standard_normal((5, 12)), targets)
    for task in ("multiclass", "multilabel"):
        scores = linear_scores(train, train.features_ND, task=task, inverse_strength=1.0)
        np.testing.assert_array_equal(scores, targets)


def test_nearest_neighbour_ignores_feature_length():
    train = LabelledFeatures(np.array([[1.0, 0.0], [0.0, 5.0]]), np.eye(2, dtype=int))
    scores = knn_scores(train, np.array([[9.0, 1.0], [0.1, 1.0]]), num_neighbours=1)
    np.testing.assert_allclose(scores, np.eye(2))


def test_what_all_clips_share_does_not_hide_their_neighbours():
    """Beside a large offset all cosines are alike: each of many votes then counts the same."""
    labels = np.repeat(np.arange(4), (30, 10, 10, 10))  # all the clips' votes: class 0 wins
    features = np.random.default_rng(0).standard_normal((60, 12)) + CENTRES[labels]
    train, test = LabelledFeatures(features, np.eye(4, dtype=int)[labels]), clips(80, 1, 1.0)
    moved = LabelledFeatures(train.features_ND + 100, train.targets_NC)
    scores = knn_scores(moved, test.features_ND + 100, num_neighbours=60)
    assert (scores.argmax(1) == test.targets_NC.argmax(1)).mean() > 0.75


def test_a_strength_at_the_end_of_its_grid_is_said(caplog):
    found = probe(signal=5.0)["linear"]  # all are perfect, so the smallest is chosen
    at_end = found["inverse_strength"] in (0.001, 1.0)
    assert found["is_at_grid_end"] == at_end == ("ends its grid" in caplog.text)
    assert at_end


def test_more_neighbours_than_clips_is_capped_and_told():
    small = clips(8, 0, 2.0)
    found = probe_scores(
        train=small, test=small, val=small, task="multiclass", num_neighbours=20, seed=0
    )
    assert found["knn"].chosen["num_neighbours"] == 8


def test_strength_is_chosen_without_the_test_clips():
    train = clips(100, 0, 0.5)
    assert choose_strength(train=train, val=None, task="multiclass", seed=0) == choose_strength(
        train=train, val=None, task="multiclass", seed=0
    )
    kept, held = hold_out(train, seed=0)
    assert len(kept.features_ND) == 80
    np.testing.assert_array_equal(held.targets_NC.sum(axis=0), [5, 5, 5, 5])


def test_hold_out_of_classes_too_small_to_stratify():
    kept, held = hold_out(clips(6, 0, 1.0), seed=0)
    assert len(kept.features_ND) + len(held.features_ND) == 6
