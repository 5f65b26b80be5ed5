"""Retrieval on embeddings whose ranks are known."""

import numpy as np
import pytest

from pipeline_src.eval.retrieval import (
    chance_level,
    rank_pairs,
    recall_intervals,
    retrieval_metrics,
    similarity_matrix,
)


def embeddings(num_clips, width=16, seed=0):
    return np.random.default_rng(seed).standard_normal((num_clips, width))


def test_identical_embeddings_are_found_first_whatever_their_length():
    features = embeddings(30)
    found = retrieval_metrics(features, features * 7, num_resamples=0, seed=0)
    for direction in ("audio_to_video", "video_to_audio"):
        assert found[direction]["R@1"]["value"] == 1
        assert found[direction]["median_rank"]["value"] == 1
        assert found["num_tied"][direction] == 0


def test_unrelated_embeddings_are_at_chance():
    found = retrieval_metrics(embeddings(400), embeddings(400, seed=1), num_resamples=200, seed=0)
    assert found["chance"] == chance_level(400)
    for direction in ("audio_to_video", "video_to_audio"):
        recall = found[direction]["R@10"]
        assert recall["low"] <= found["chance"]["R@10"] <= recall["high"]
        assert found[direction]["median_rank"]["value"] == pytest.approx(200.5, rel=0.25)


def test_rank_counts_strictly_better_candidates_and_ties_are_told():
    similarity = np.array([[0.5, 0.9, 0.5], [0.1, 0.2, 0.1], [0.3, 0.3, 0.3]])
    ranks = rank_pairs(similarity)
    np.testing.assert_array_equal(ranks.ranks_N, [1, 0, 0])
    assert ranks.num_tied == 2


def test_collapsed_embeddings_are_seen_as_ties():
    constant = np.ones((10, 4))
    found = retrieval_metrics(constant, constant, num_resamples=0, seed=0)
    assert found["num_tied"] == {"audio_to_video": 10, "video_to_audio": 10}


def test_directions_are_not_mixed_up():
    # Angles: both audios are closest to video 1, and each video is closest to its own audio.
    audio = np.array([[1.0, 0.2], [1.0, 0.1]])
    video = np.array([[1.0, 0.5], [1.0, 0.12]])
    found = retrieval_metrics(audio, video, num_resamples=0, seed=0)
    assert found["audio_to_video"]["R@1"]["value"] == 0.5
    assert found["video_to_audio"]["R@1"]["value"] == 1


def test_median_interval_equals_the_plain_bootstrap():
    ranks = np.random.default_rng(5).integers(0, 60, 41)
    interval = recall_intervals(ranks, num_resamples=2000, seed=0)["median_rank"]
    drawn = np.random.default_rng(9).integers(0, 41, (2000, 41))
    low, high = np.percentile(np.median(ranks[drawn], axis=1) + 1, (2.5, 97.5))
    assert interval["value"] == np.median(ranks) + 1
    assert interval["low"] == pytest.approx(low, abs=2)
    assert interval["high"] == pytest.approx(high, abs=2)


@pytest.mark.parametrize("gallery", [1, 3])
def test_galleries_smaller_than_k(gallery):
    features = embeddings(gallery)
    found = retrieval_metrics(features, features, num_resamples=10, seed=0)
    assert found["chance"]["R@10"] == 1
    assert found["audio_to_video"]["R@10"] == {"value": 1.0, "low": 1.0, "high": 1.0}


@pytest.mark.parametrize(
    ("audio", "video", "message"),
    [
        (np.ones((3, 4)), np.ones((3, 5)), r"\(3, 4\) and video \(3, 5\)"),
        (np.ones((0, 4)), np.ones((0, 4)), r"\(0, 4\)"),
        (np.ones((2, 2)), np.full((2, 2), np.inf), "video embeddings"),
    ],
)
def test_unusable_embeddings_are_refused(audio, video, message):
    with pytest.raises(ValueError, match=message):
        similarity_matrix(audio, video)
