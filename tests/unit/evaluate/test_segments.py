"""Retrieval by aligned segments: what each score tells apart, and ties."""

import numpy as np
import pytest

from pipeline_src.evaluate.segments import (
    SCORES,
    segment_retrieval,
    segment_scores,
    similarity_maps,
)

OPTIONS = {"num_resamples": 0, "seed": 0}


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def make_features(num_clips=12, num_segments=4, dim=8, noise=0.1):
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((num_clips, num_segments, dim))
    return audio, audio + noise * rng.standard_normal(audio.shape)


@pytest.mark.parametrize("score", SCORES)
def test_scores_are_those_of_a_loop_over_pairs(score):
    audio, video = (unit(side) for side in make_features(noise=2))
    ours = segment_scores(audio, video, score)
    for i in range(len(audio)):
        for j in range(len(video)):
            cosines = audio[i] @ video[j].T
            values = np.diag(cosines) if score.startswith("diagonal") else cosines
            expected = values.max() if score.endswith("max") else values.mean()
            assert ours[i, j] == pytest.approx(expected)


def test_the_order_of_segments_matters_to_the_diagonal_alone():
    audio, video = make_features()
    metrics = segment_retrieval(audio, video[:, ::-1], **OPTIONS)
    assert metrics["by_score"]["max"]["audio_to_video"]["R@1"]["value"] == 1
    assert metrics["audio_to_video"]["R@1"]["value"] < 0.5
    aligned = segment_retrieval(audio, video, **OPTIONS)
    assert aligned["audio_to_video"]["R@1"]["value"] == 1
    assert set(aligned["by_score"]) == {"diagonal_max", "mean", "max", "clip_mean"}


def test_copies_of_a_clip_are_tied():
    audio, video = make_features()
    audio[1], video[1] = audio[0] + 1e-9, video[0] - 1e-9
    metrics = segment_retrieval(audio, video, **OPTIONS)
    for scored in (metrics, *metrics["by_score"].values()):
        assert scored["num_tied"] == {"audio_to_video": 2, "video_to_audio": 2}


def test_a_map_has_sound_as_rows():
    audio, video = make_features(num_clips=2)
    video[0, 3] = audio[0, 1]
    maps = similarity_maps(audio, video)
    assert maps.shape == (2, 4, 4)
    assert maps[0, 1, 3] == pytest.approx(1)
