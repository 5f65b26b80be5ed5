"""The table of retrieval over seeds."""

import re

import numpy as np
import pytest

from benchmarks import retrieval_seeds
from pipeline_src.evaluate.files import RETRIEVAL_FILE
from pipeline_src.evaluate.records import DIRECTIONS

NUM_CLIPS, NUM_FOUND = 100, {"base_0": 40, "base_1": 44, "more_0": 60, "more_1": 68}


def write_ranks(root, run, num_found, num_clips=NUM_CLIPS):
    """``num_found`` partners are found at once, the others never among ten."""
    ranks = np.where(np.arange(num_clips) < num_found, 0, 50)
    folder = root / run / "probe" / "digits"
    folder.mkdir(parents=True)
    ids = [f"clip{n}" for n in range(num_clips)]
    np.savez(folder / RETRIEVAL_FILE, clip_ids=ids, **dict.fromkeys(DIRECTIONS, ranks))


def table(root, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["retrieval_seeds", str(root), "--dataset", "digits"])
    retrieval_seeds.main()
    return [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]


def test_means_and_paired_differences_stand_below_each_other(tmp_path, monkeypatch, capsys):
    for run, num_found in NUM_FOUND.items():
        write_ranks(tmp_path, run, num_found)
    _, _, base, more, over = table(tmp_path, monkeypatch, capsys)
    assert base[:2] == ["base", "2"]
    assert base[2].startswith("0.420 (")
    assert more[2].startswith("0.640 (")
    value, low, high = map(float, re.findall(r"[+-][\d.]+", over[-1]))
    assert value == pytest.approx(0.22)
    assert 0 < low < value < high


def test_runs_of_different_galleries_are_not_compared(tmp_path):
    write_ranks(tmp_path, "base_0", 10)
    write_ranks(tmp_path, "base_1", 10, num_clips=50)
    with pytest.raises(SystemExit, match="2 galleries"):
        retrieval_seeds.collect(tmp_path, "digits")
