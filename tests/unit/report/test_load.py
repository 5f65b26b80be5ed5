"""What the report reads: rows of a log."""

import json

from pipeline_src.report.load import read_rows


def test_rows_survive_a_cut_line_and_a_repeated_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 3}, {"step": 2, "loss": 2}, {"step": 2, "loss": 1}]
    complete = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(complete + '{"step": 3, "lo')
    assert read_rows(path, "training") == [{"step": 1, "loss": 3}, {"step": 2, "loss": 1}]
