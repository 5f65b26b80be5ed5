"""The benchmark of the embedding, small: one row a file, also after a kill; and its record."""

import json
import sys

import pytest

from benchmarks import embed


@pytest.mark.exhaustive
@pytest.mark.slow
def test_it_embeds_every_clip_once(tmp_path, monkeypatch):
    output = tmp_path / "embed.json"
    monkeypatch.setattr(sys, "argv", ["embed.py", "--clips", "96", "--output", str(output)])
    embed.main()
    found = json.loads(output.read_text())
    assert found["num_clips"] == 96
    killed = found["killed"]
    assert 32 <= killed["rows_kept"] < 96
    assert killed["rows_kept"] + killed["rows_made"] == 96
    for way in ("decode_only", "start", "whole"):
        assert found[way]["cpu_seconds"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "1 files without"),
        (lambda lines: [*lines, lines[-1]], "1 files without"),
        (lambda lines: [*lines[:-1], lines[-1].replace("b.mp4,", "b.mp4,corrupt")], "1 files"),
    ],
)
def test_a_file_without_one_row_is_told(tmp_path, change, message):
    lines = ["source,reason", "a.mp4,", "b.mp4,"]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    embed.check_rows(path, ["a.mp4", "b.mp4"])
    path.write_text("\n".join(change(lines)) + "\n")
    with pytest.raises(RuntimeError, match=message):
        embed.check_rows(path, ["a.mp4", "b.mp4"])
