"""Retrieval on embeddings whose ranks are known."""

import numpy as np
import pytest

from pipeline_src.evaluate.retrieval import (
    chance_level,
    rank_pairs,
    recall_intervals,
    retrieval_metrics,
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
    # Angles of two clips in the plane: video 2 is a copy of video 0.
    audio = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    video = np.array([[1.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    ranks = rank_pairs(audio, video)
    np.testing.assert_array_equal(ranks["audio_to_video"].ranks_N, [1, 2, 0])
    np.testing.assert_array_equal(ranks["video_to_audio"].ranks_N, [1, 2, 0])
    assert ranks["audio_to_video"].num_tied == 2
    assert ranks["video_to_audio"].num_tied == 1


def strict_ranks(queries, candidates):
    """Ranks in fp64 of clips that are all different, by the definition."""
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, candidates)]
    scores = units[0] @ units[1].T
    return (scores > np.diag(scores)[:, None]).sum(axis=1)


@pytest.mark.parametrize(
    ("num_clips", "num_copies", "width"), [(8, 3, 32), (100, 2, 768), (515, 3, 768)]
)
@pytest.mark.parametrize("noise", [0, 1e-7], ids=["equal bits", "of another batch"])
def test_copies_of_clips_are_tied_and_push_others_back(num_clips, num_copies, width, noise):
    generator = np.random.default_rng(0)
    audio, video = generator.standard_normal((2, num_clips, width)).astype(np.float32)
    audio += 0.02 * video
    copied = np.tile(np.arange(num_clips), num_copies)
    galleries = [
        (x[copied] * (1 + noise * generator.standard_normal((len(copied), width)))).astype("f4")
        for x in (audio, video)
    ]
    for ranks, plain in zip(
        rank_pairs(*galleries).values(),
        (strict_ranks(audio.astype(float), video), strict_ranks(video.astype(float), audio)),
        strict=True,
    ):
        assert ranks.num_tied == len(copied)
        np.testing.assert_array_equal(ranks.ranks_N, np.tile(num_copies * plain, num_copies))


def test_scores_that_are_equal_in_theory_are_tied():
    # Multiples of one vector have the same direction, whatever their last bits.
    video = np.outer(np.arange(1, 40) / 7, np.random.default_rng(1).standard_normal(96))
    audio = np.random.default_rng(2).standard_normal(video.shape)
    ranks = rank_pairs(audio.astype(np.float32), video.astype(np.float32))
    assert ranks["audio_to_video"].num_tied == 39
    assert not ranks["audio_to_video"].ranks_N.any()


def test_clips_that_are_merely_alike_are_no_copies():
    generator = np.random.default_rng(3)
    base = generator.standard_normal(64)
    near = np.stack([base + 1e-3 * generator.standard_normal(64) for _ in range(50)])
    assert rank_pairs(near, near)["audio_to_video"].num_tied == 0


def test_the_order_of_a_gallery_does_not_matter_beyond_a_block():
    generator = np.random.default_rng(4)
    audio, video = generator.standard_normal((2, 1500, 8))
    order = generator.permutation(1500)
    for direction, ranks in rank_pairs(audio, video).items():
        moved = rank_pairs(audio[order], video[order])[direction]
        np.testing.assert_array_equal(ranks.ranks_N[order], moved.ranks_N)


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
        rank_pairs(audio, video)
