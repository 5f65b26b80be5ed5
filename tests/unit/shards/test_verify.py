"""Every kind of damage to packed shards is found, named with its clip; the exit code is 1."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pipeline_src.config.data import AudioConfig
from pipeline_src.errors import ManifestError
from pipeline_src.shards.check import check_members, check_shard
from pipeline_src.shards.reader import ShardReader
from pipeline_src.shards.shard_set import open_shards, read_index
from pipeline_src.shards.verify import find_indexes, list_tasks, verify
from tests import media

pytestmark = pytest.mark.slow

AUDIO = AudioConfig(num_mel_bins=32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of two packed clips."""
    folder = tmp_path_factory.mktemp("verify")
    media.make_clip(folder / "a.mp4", tone=(0, 0.5))
    media.make_clip(folder / "b.mp4", seconds=1.5, tone=(0.5, 1))
    clips = [{"clip_id": k, "source": f"{k}.mp4", "labels": "1"} for k in "ab"]
    return media.make_shards(folder, clips, AUDIO).parent


@pytest.fixture
def shards(whole, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(whole, tmp_path / "shards")


def defects(folder, num_decoded=-1):
    """What ``verify`` finds, shard after shard in this process."""
    tasks, found = list_tasks(folder / "index.json", num_decoded)
    return found + [line for task in tasks for line in check_shard(task)]


def samples(folder):
    return open_shards([folder / "index.json"]).samples


def test_the_command_finds_whole_shards_whole_and_a_changed_byte(root, shards):
    def run(*arguments):
        command = [sys.executable, "-m", "pipeline_src", "verify", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)

    result = run(str(shards.parent), "--workers", "2")
    assert (result.returncode, result.stdout) == (0, "no defect\n"), result.stderr
    assert "1 shards, 2 clips checked" in result.stderr
    change(shards, samples(shards)[1].offset_bytes + 1000)
    result = run(str(shards / "index.json"), str(shards / "nowhere.json"), "--decode", "0")
    assert result.returncode == 1
    first, second, count = result.stdout.splitlines()
    assert "nowhere.json: index not readable" in first
    assert "train-00000.tar: clip b: its bytes have changed (CRC-32); delete" in second
    assert count == "2 defects"


def change(folder, position):
    path = folder / "train-00000.tar"
    data = bytearray(path.read_bytes())
    data[position] ^= 255
    path.write_bytes(data)


def edit(path, function):
    value = json.loads(path.read_text())
    function(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "train-00000.tar").unlink(), "train-00000.tar: is missing"),
        (lambda f: (f / "train-00000.tar").open("ab").write(b"0"), "bytes instead of"),
        (lambda f: change(f, -1), "holds more than its manifest lists"),
        (lambda f: (f / "train-00000_001.tar").touch(), "no manifest lists it"),
        (
            lambda f: edit(f / "index.json", lambda v: v.update(num_clips=3)),
            "says 3 clips, its shards hold 2",
        ),
        (
            lambda f: edit(f / "index.json", lambda v: v.update(num_clips_in_list=3)),
            "3 clips in the list, 2 in the manifests, 2 packed or lost",
        ),
        (
            lambda f: edit(f / "index.json", lambda v: v.update(clip_ids_sha256="0")),
            "that of other clips",
        ),
        (
            lambda f: edit(f / "index.json", lambda v: v["shards"][0].update(sha256="0")),
            "lists other shards",
        ),
        (
            lambda f: edit(f / "00000.json", lambda v: v["shards"][0].update(sha256="0")),
            "another sha256",
        ),
        (
            lambda f: edit(f / "00000.json", lambda v: v["samples"][1].__setitem__(2, "a")),
            "clip_id 'a' stands there more than once",
        ),
        (
            lambda f: edit(f / "00000.json", lambda v: v["samples"][1].__setitem__(1, [0])),
            "clip b: json has labels [1], its manifest [0]",
        ),
        (
            lambda f: edit(f / "index.json", lambda v: v.update(frame_size=64)),
            "clip a: frame_00.jpg is 32 x 32, its shorter side not 64",
        ),
    ],
)
def test_each_kind_of_damage_is_named(shards, damage, expected):
    damage(shards)
    found = defects(shards)
    assert any(expected in line for line in found), found
    assert all(str(shards) in line and "delete" in line for line in found)


def test_as_many_clips_are_decoded_as_asked_for(shards):
    edit(shards / "index.json", lambda value: value.update(frame_size=64))
    for wanted, clips in ((0, set()), (1, {"a"}), (5, {"a", "b"})):
        tasks, _ = list_tasks(shards / "index.json", wanted)
        assert set().union(*(task.decoded for task in tasks)) == clips
        assert {line.split("clip ")[1][0] for line in defects(shards, wanted)} == clips


def test_the_index_of_a_search_is_none_of_shards(shards, tmp_path):
    """It was called a defect, with the advice to delete it."""
    (tmp_path / "search").mkdir()
    (tmp_path / "search/index.json").write_text('{"widths": {"audio": 3}, "num_clips": 2}')
    damaged = tmp_path / "damaged/index.json"
    damaged.parent.mkdir()
    damaged.write_text('{"num_clips": 2}')
    assert find_indexes([tmp_path]) == [damaged, shards / "index.json"]


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"no index\.json of shards in it"):
        next(verify([tmp_path], num_decoded=0, num_workers=1))


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("json", b"{", "json is not readable"),
        ("frame_01.jpg", b"\xff\xd8 torn", "frame_01.jpg cannot be decoded"),
        ("frame_04.jpg", b"one more", "5 frames, json has the times of 4"),
        ("logmel.npy", b"torn", "logmel.npy cannot be read"),
        ("logmel.npy", npy(np.zeros((98, 8), np.float16)), "has the shape (98, 8)"),
        ("logmel.npy", npy(np.full((98, 32), np.nan, np.float16)), "not finite float16"),
        ("logmel.npy", npy(np.zeros((97, 32), np.float16)), "as long as 98 log-mel frames"),
        ("flac", b"torn", "flac cannot be decoded"),
    ],
)
def test_each_member_is_decoded(whole, name, content, expected):
    sample = samples(whole)[0]
    members = ShardReader().read(sample)
    index = read_index(whole / "index.json")
    assert list(check_members(sample, members, index)) == []
    found = list(check_members(sample, {**members, name: memoryview(content)}, index))
    assert expected in found[0]
