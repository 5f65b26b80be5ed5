"""The throughput benchmark, short: every figure is there and the ratios are of them."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_a_quick_benchmark_measures_and_compares(root, tmp_path):
    output = tmp_path / "throughput.json"
    command = [sys.executable, "benchmarks/throughput.py", "--quick", "--output", str(output)]
    done = subprocess.run(
        [*command, "--runs", "avsiam_base", "cav_mae_base"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    record = json.loads(output.read_text())
    assert {"device", "torch", "git_commit", "machine"} <= record.keys()
    ours, reference = (record["runs"][name]["5"] for name in ("avsiam_base", "cav_mae_base"))
    assert ours["teraflops"] > 0
    (values,) = record["ratios"].values()
    ratio = ours["clips_per_second"] / reference["clips_per_second"]
    assert values == {"measured": pytest.approx(ratio), "published": 3.35}
    assert f"{ratio:.2f}, published 3.35" in done.stdout
