"""Maps of sound against frames: one scale, sentences that say what they show."""

import numpy as np
import pytest

from pipeline_src.evaluate.records import Retrieval
from pipeline_src.evaluate.segments import segment_retrieval
from pipeline_src.report.sections.retrieval import score_table
from pipeline_src.report.similarity import similarity_charts


def test_maps_of_the_first_clips_are_drawn_with_what_they_mean():
    maps = np.stack([np.eye(4), np.full((4, 4), 0.5), np.eye(4)]).astype(np.float32)
    charts = similarity_charts(maps, ["a", "b<i>", "c"], num_examples=2).charts
    assert [chart.title for chart in charts] == ["Clip a", "Clip b<i>"]
    assert "belong together 1.00, of all 0.25" in charts[0].alt
    assert charts[1].caption == "pairs 0.50, all 0.50"
    assert charts[0].svg.startswith("<svg")


def test_maps_that_are_no_squares_are_refused():
    with pytest.raises(ValueError, match="segment_similarity of shape"):
        similarity_charts(np.zeros((2, 3, 4)), ["a", "b"], 2)


def test_every_score_of_aligned_segments_has_a_row():
    audio = np.random.default_rng(0).standard_normal((12, 4, 8))
    metrics = segment_retrieval(audio, audio, num_resamples=0, seed=0)
    table = score_table(Retrieval.model_validate(metrics), "pre-trained")
    assert len(table.rows) == 5
    assert table.rows[0][0].text == "mean of the aligned pairs (published)"
    assert {len(row) for row in table.rows} == {len(table.head)}
