"""The t-SNE map: which clips, and what a pointer finds."""

import numpy as np
import pytest

from pipeline_src.report.blocks import Sheet
from pipeline_src.report.embedding_map import MapClips, embedding_chart, select_clips


def test_map_takes_equally_many_clips_of_the_most_frequent_classes():
    labels = np.repeat(np.arange(12), np.arange(1, 13))
    chosen = select_clips(labels, 40)
    counts = np.bincount(labels[chosen], minlength=12)
    assert counts[:2].tolist() == [0, 0]
    assert counts[2:].min() >= 3
    assert counts.sum() == 40


def draw_map(num_clips, *, is_one_vector=False, **options):
    rng = np.random.default_rng(0)
    ids = np.array([f"clip{index}" for index in range(num_clips)])
    labels = np.arange(num_clips) % 3
    vectors = rng.standard_normal((2, num_clips, 8))
    if is_one_vector:
        vectors[:] = vectors[0, 0]
    clips = MapClips(*vectors, labels, ids)
    options = {"num_clips": 12, "title": "map", "name": "run", **options}
    return embedding_chart(clips, ["a<b>", "b", "c"], **options)


def test_every_mark_of_the_map_tells_its_clip_and_class():
    asked = []

    def draw_sheet(clip_ids):
        asked.extend(clip_ids)
        return Sheet("data:image/webp;base64,", 4, 48)

    values = draw_map(20, draw_sheet=draw_sheet).hover.values()
    points = [point for one in values["series"] for point in one["points"]]
    assert len(points) == 2 * 12
    assert sorted(point[2] for point in points) == sorted([*range(12), *range(12)])
    assert [text[0] for text in values["texts"]] == asked
    assert {text[1] for text in values["texts"]} == {"a<b>", "b", "c"}
    assert {one["name"] for one in values["series"]} == {"audio", "video"}
    assert values["sheet"]["columns"] == 4


def test_clips_of_one_vector_have_one_place():
    chart = draw_map(20, is_one_vector=True, draw_sheet=lambda _: None)
    points = [point for one in chart.hover.values()["series"] for point in one["points"]]
    assert len(points) == 2 * 12
    assert len({tuple(point[:2]) for point in points}) == 1


def test_a_map_of_too_few_clips_is_refused():
    with pytest.raises(ValueError, match="at least 5 clips, got 4"):
        draw_map(4, draw_sheet=lambda _: None)
