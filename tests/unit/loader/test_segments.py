"""Segments of sound around frames: where they lie, and what a data set gives of them."""

import numpy as np
import pytest

from pipeline_src.loader.sampler import Draw
from pipeline_src.loader.segments import SegmentRule
from tests.unit.loader.test_dataset import LENGTH, NUM_STORED, frame_levels, make_dataset

RULE = SegmentRule(clip_length=24)  # of 6 stored frames: one each 4 log-mel frames


def rows(logmel):
    """Which log-mel frames a segment holds: their number is their value."""
    return logmel[..., 0].tolist()


@pytest.mark.parametrize(
    ("rule", "frame", "expected"),
    [
        (RULE, 0, (0, 8)),  # moved inwards
        (RULE, 2, (4, 12)),
        (RULE, 5, (16, 24)),
        (SegmentRule(24, "middle"), 2, (6, 14)),
        (SegmentRule(24, "seconds"), 2, (1, 9)),  # at 0.05 s
        (SegmentRule(24, "seconds", frames_per_second=200), 2, (6, 14)),
        (SegmentRule(6), 2, (0, 6)),  # as long as there is
    ],
)
def test_bounds(rule, frame, expected):
    assert rule.bounds(8, [frame], 6, [0.01, 0.03, 0.05, 0.07, 0.09, 0.11]) == expected


def test_several_frames_have_one_segment_around_their_mean():
    assert RULE.bounds(8, [1, 3], 6) == RULE.bounds(8, [2], 6)


def test_training_shows_a_random_frame_with_its_segment(tmp_path):
    dataset = make_dataset(tmp_path, target_length=8, num_frames=1, segments=RULE)
    seen = set()
    for position in range(60):
        item = dataset[Draw(0, position)]
        (frame,) = frame_levels(item)
        start, end = RULE.bounds(8, [frame], NUM_STORED)
        assert rows(item["logmel"]) == [row if row < LENGTH else 0 for row in range(start, end)]
        seen.add(frame)
    assert seen == set(range(NUM_STORED))


def test_evaluation_shows_every_frame_with_its_segment(tmp_path):
    values = {"target_length": 8, "segments": RULE, "training": False, "window_frames": 1}
    item = make_dataset(tmp_path, num_frames=NUM_STORED, **values)[Draw(0, 0)]
    assert frame_levels(item) == list(range(NUM_STORED))
    assert item["logmel"].shape[:2] == (NUM_STORED, 8)
    assert [segment[0] for segment in rows(item["logmel"])] == [0, 0, 4, 8, 12, 16]
    assert rows(item["logmel"])[-1][4:] == [0] * 4  # the clip has 20 of 24 frames


def test_windows_of_several_frames_have_a_segment_each(tmp_path):
    values = {"target_length": 8, "segments": RULE, "training": False, "window_frames": 3}
    item = make_dataset(tmp_path, num_frames=6, **values)[Draw(0, 0)]
    # Windows are frames 0, 2, 4 and 1, 3, 5: around 8 and 12.
    assert [segment[0] for segment in rows(item["logmel"])] == [4, 8]


def test_clips_without_frames_have_segments_at_equal_distances(tmp_path):
    values = {"target_length": 8, "segments": RULE, "training": False, "window_frames": 1}
    dataset = make_dataset(tmp_path, num_frames=3, **values)
    starts = [start for start, _ in dataset.format.choose_segments(None, (), None)]
    assert starts == [0, 8, 16]


def test_segments_of_a_training_without_frames_are_anywhere(tmp_path):
    dataset = make_dataset(tmp_path, target_length=8, num_frames=1, segments=RULE)
    chosen = [
        dataset.format.choose_segments(None, (), np.random.default_rng(seed))[0][0]
        for seed in range(200)
    ]
    assert set(chosen) == set(range(17))


def test_without_segments_the_logmel_is_whole(tmp_path):
    dataset = make_dataset(tmp_path, training=False)
    assert dataset.format.choose_segments(None, [0], None) == []
    assert dataset[Draw(0, 0)]["logmel"].shape[0] == 24
