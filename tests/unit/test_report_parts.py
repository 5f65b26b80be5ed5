"""The report's parts one by one: rows of a log, the choice of clips for the map, slim drawings."""

import json
import subprocess
import sys

import numpy as np

from pipeline_src.report.drawing import slim_svg
from pipeline_src.report.embedding_map import select_clips
from pipeline_src.report.load import read_rows


def test_report_needs_no_torch():
    code = "import sys, pipeline_src.report.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_rows_survive_a_cut_line_and_a_repeated_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 3}, {"step": 2, "loss": 2}, {"step": 2, "loss": 1}]
    complete = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(complete + '{"step": 3, "lo')
    assert read_rows(path, "training") == [{"step": 1, "loss": 3}, {"step": 2, "loss": 1}]


def test_map_takes_equally_many_clips_of_the_most_frequent_classes():
    labels = np.repeat(np.arange(12), np.arange(1, 13))
    chosen = select_clips(labels, 40)
    counts = np.bincount(labels[chosen], minlength=12)
    assert counts[:2].tolist() == [0, 0]
    assert counts[2:].min() >= 3
    assert counts.sum() == 40


def test_slim_svg_keeps_references_and_drops_the_rest():
    svg = (
        '<?xml version="1.0"?><svg width="72pt" height="36pt" xmlns="x" version="1.1">'
        '<g id="figure_1"><path id="m1" d="M 1.23456 2"/><use xlink:href="#m1"/></g></svg>'
    )
    slim = slim_svg(svg)
    assert 'id="m1"' in slim
    assert "figure_1" not in slim
    assert "M 1.23 2" in slim
    assert "max-width:96px" in slim
