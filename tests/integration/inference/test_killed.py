"""kill -9 in the middle of `embed` and of `search build`: each continues, nothing is made twice."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from pipeline_src.inference.model import load
from pipeline_src.inference.search.store import ClipIndex
from tests.checkpoints import make_checkpoint
from tests.media import make_clip

pytestmark = pytest.mark.slow
NUM_CLIPS = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint and a folder of equal sounds, but for their names."""
    folder = tmp_path_factory.mktemp("killed")
    make_checkpoint(folder / "run", classes=())
    (folder / "clips").mkdir()
    sound = make_clip(folder / "sound.wav", seconds=1.2, has_video=False, options=())
    for number in range(NUM_CLIPS):
        shutil.copy(sound, folder / f"clips/{number:02d}.wav")
    return folder


def start(root, *words):
    command = [sys.executable, "-m", "pipeline_src", *map(str, words), "--device", "cpu"]
    small = ("--batch-size", "2", "--workers", "1")
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen([*command, *small], env=environment, stderr=subprocess.PIPE, text=True)


def kill_within(process, rows):
    """End it by SIGKILL once it has written a few rows; return their sources."""
    while not rows.is_file() or rows.read_bytes().count(b"\n") < 4:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.communicate()
    written = rows.read_text().splitlines(keepends=True)
    return [line for line in written if line.endswith("\n")]


def kill_and_run_again(root, command, rows):
    """What was written before the kill, and what the second run says."""
    kept = kill_within(start(root, *command), rows)
    assert 4 <= len(kept) < NUM_CLIPS
    again = start(root, *command)
    said = again.communicate()[1]
    assert again.returncode == 0, said
    assert f"{len(kept)} of {NUM_CLIPS} are done" in said
    return kept, said


@pytest.mark.exhaustive
def test_embed_continues_after_a_kill(folder, root, tmp_path):
    rows = tmp_path / "rows.jsonl"
    command = ("embed", folder / "run", folder / "clips", "--output", rows)
    kept, said = kill_and_run_again(root, command, rows)
    assert f"{NUM_CLIPS - len(kept)} inputs; refused: none" in said
    lines = rows.read_text().splitlines(keepends=True)
    assert lines[: len(kept)] == kept  # nothing of before was made again
    found = list(map(json.loads, lines))
    names = [row["source"].rpartition("/")[2] for row in found]
    assert names == [f"{number:02d}.wav" for number in range(NUM_CLIPS)]
    (one,) = load(folder / "run", device="cpu").embed(folder / "clips/00.wav")
    assert np.allclose([row["audio"] for row in found], one.audio, atol=1e-5)


def test_an_index_continues_after_a_kill(folder, root, tmp_path):
    rows = tmp_path / "index/rows.jsonl"
    command = ("search", "build", folder / "run", folder / "clips", "--index", tmp_path / "index")
    kept, _ = kill_and_run_again(root, command, rows)
    assert rows.read_text().splitlines(keepends=True)[: len(kept)] == kept
    index = ClipIndex(tmp_path / "index")
    names = [index.row(number)["clip"].rpartition("/")[2] for number in range(index.num_rows)]
    assert names == [f"{number:02d}.wav" for number in range(NUM_CLIPS)]
    (one,) = load(folder / "run", device="cpu").embed(folder / "clips/00.wav")
    assert np.allclose(index.vectors["audio"], one.compared("audio"), atol=1e-5)
