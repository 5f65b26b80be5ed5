"""Curves of a finished training as CSV tables, which ``dvc plots`` reads."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_src.system.atomic import write_text

METRICS_LOG_FILE = "metrics.jsonl"  # what they are made of
HISTORY_FILE = "history.csv"
VALIDATION_FILE = "validation.csv"
LEFT_OUT = {"num_steps", "seconds"}


def write_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line per row of metrics.jsonl; validation scores become columns."""
    flat = [{**row, **row.get("val", {})} for row in rows]
    columns = {key: None for row in flat for key in row if key not in {*LEFT_OUT, "val"}}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_text(path, text.getvalue())
