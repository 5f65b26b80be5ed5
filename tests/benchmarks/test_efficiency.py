"""The efficiency benchmark, short: every figure is there and its counts agree."""

import json
import subprocess
import sys

import pytest

from benchmarks.variants import REFERENCE

pytestmark = pytest.mark.slow


@pytest.mark.exhaustive
def test_a_quick_benchmark_counts_times_and_prints(root, tmp_path):
    output = tmp_path / "efficiency.json"
    command = [sys.executable, "benchmarks/efficiency.py", "--quick", "--threads", "1"]
    done = subprocess.run(
        [*command, "--output", str(output)], cwd=root, capture_output=True, text=True, check=True
    )
    record = json.loads(output.read_text())
    assert {"device", "torch", "git_commit", "machine"} <= record.keys()
    (rows,) = record["frames"].values()
    reference = rows[REFERENCE]
    assert (reference["counted_saved"], reference["wall_over_mavil"]) == (0, 1)
    for name, row in rows.items():
        assert row["wall_over_mavil"] > 0
        assert name in done.stdout
    assert rows["reconstruction"]["counted_saved"] > 0.1
    assert rows["reconstruction"]["steps_saved"] > 0.2
    assert rows["reconstruction"]["counted_memory_gb"] > reference["counted_memory_gb"]


def test_the_recorded_counts_are_within_two_percent_of_the_closed_form(root):
    record = json.loads((root / "benchmarks/results/efficiency.json").read_text())
    assert record["counted_size"] == "base"
    for rows in record["frames"].values():
        for name, row in rows.items():
            assert row["counted_over_closed_form"] == pytest.approx(1, abs=0.02), name
