"""Names that a list, an archive or a site may bring: refused, or a name and nothing more.

Forged archives, pages and large answers are in download/test_archives and download/test_bodies,
hostile file names in ffmpeg's command line in transcode/test_files.
"""

import csv
import io
import json
import tarfile

import pyarrow.parquet as pq
import pytest

from pipeline_src.config import AudioConfig
from pipeline_src.datasets.chunk_plan import ensure_plan, read_plan_chunk
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ManifestError
from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.manifest.collect import STAGES, collect_ledgers
from pipeline_src.manifest.tars import read_samples
from pipeline_src.shards.files import shard_paths
from tests.media import make_clip, make_shards
from tests.server import running_server

COLUMNS = ("clip_id", "source", "start_seconds", "end_seconds", "labels", "split")
# What a list may hold; what no line of a list may hold.
NAMES = (
    *("-rf", "--exec=touch x", "../../x", "/abs", "a'b\"c`d", "$(touch x)", "Ünï ☃", "..", "."),
    *("con", "a,b;c", "x.tar::y", "pipe:touch x", "%(id)s", "{clip_id}", "*", "=1+1", "y" * 300),
)
# Titles as sites have them: wide and hard spaces, joiners, marks of direction, newer characters.
TITLES = (
    *("犬\u3000鳴き声", "dog\u00a0barks", "\U0001f468\u200d\U0001f467", "می\u200cروم", "כלב\u200f"),
    *(
        "Don\u00adau",
        "\ufeffdog",
        "\U0001fae9\U0001facd",
        "Ünï\u202e",
        "e\u0301",
        "\ue000",
    ),
)
CONTROL = ("a\nb", "a\rb", "a\0b", "a\x1b[31m", "a\x7f", "a\x9bm", "a\u2028b", "\t", "\u3000")


@pytest.fixture
def names(tmp_path, monkeypatch):
    """NAMES, and some that would write to ``outside``; all else would write where we stand."""
    for name in ("outside", "stand"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "stand")
    outside = tmp_path / "outside"
    return (*NAMES, *TITLES, f"{outside}/abs", f"$(touch {outside}/x)", f"`touch {outside}/y`")


def write_list(folder, names, source="{}"):
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(COLUMNS)
        rows.writerows((name, source.format(name), "", "", "a", "train") for name in names)
    (folder / "classes.csv").write_text("index,id,display_name\n0,a,A\n1,b,B\n")
    text = "name: toy\ntask: multilabel\nclip_list: list.csv\nclass_names: classes.csv\n"
    (folder / "toy.yaml").write_text(text)
    return load_dataset(folder / "toy.yaml")


def plan(dataset, folder):
    ensure_plan(dataset, chunk_size=1000, max_seconds=600, folder=folder)
    return read_plan_chunk(folder / "train/00000.csv", "train")


def test_a_list_keeps_every_name_as_it_stands(tmp_path, names):
    clips = plan(write_list(tmp_path, names, "t.tar::{}"), tmp_path / "plan")
    assert [clip.clip_id for clip in clips] == list(names)
    assert [clip.source for clip in clips] == [f"t.tar::{name}" for name in names]
    for name in ("outside", "stand"):
        assert not list((tmp_path / name).iterdir())


@pytest.mark.parametrize("name", CONTROL)
def test_a_list_with_control_characters_is_refused(tmp_path, name):
    with pytest.raises(ManifestError, match=r"list\.csv:\d+: "):
        plan(write_list(tmp_path, [name]), tmp_path / "plan")
    assert not (tmp_path / "plan").exists()


def archive_of(names, data):
    """A tar with a regular member of each name, and links and a folder beside them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../secret.mp4"
            tar.addfile(info)
        info = tarfile.TarInfo("folder")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("is_remote", [False, True])
def test_names_stay_names_from_the_archive_to_the_shard(tmp_path, names, is_remote):
    folder = tmp_path / "deep" / "down" / "here"
    folder.mkdir(parents=True)
    make_clip(folder / "clip.mp4", seconds=1)
    secret = tmp_path / "deep" / "secret.mp4"
    (folder / "clip.mp4").rename(secret)
    names = [*names, "a\nb", "a\u2028b"]  # also what only an archive can hold
    with running_server() as server:
        content = archive_of(names, secret.read_bytes())
        server.files["t.tar"] = content
        (folder / "t.tar").write_bytes(content)
        prefix = server.url("t.tar::") if is_remote else "t.tar::"
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        lost = ("soft", "hard", "folder")
        clips = [{"clip_id": name, "source": f"{prefix}{name}"} for name in (*names, *lost)]
        index = make_shards(folder, clips, AudioConfig(num_mel_bins=32))
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    described = {folder / "toy.yaml", folder / "classes.csv"}
    assert all(path.is_relative_to(folder / "results") for path in made - described)
    assert json.loads(index.read_text())["num_clips"] == len(names)
    check_shard(folder / "results", names)
    check_ledger(folder / "results", names, lost)


def check_shard(results, names):
    """Members have plain names, their descriptions the original ones."""
    path = results / "shards/00000.json"
    (shard,) = shard_paths(path, read_chunk(path, "pack"))
    samples = dict(read_samples(shard))
    assert len(samples) == len(names)
    assert all(key.isascii() and not set(key) & set("./\\ *") for key in samples)
    assert {json.loads(sample["json"])["clip_id"] for sample in samples.values()} == set(names)


def check_ledger(results, names, lost):
    manifests = {stage: [results / stage / "00000.json"] for stage in STAGES}
    collect_ledgers(manifests, results / "ledger.parquet")
    rows = pq.read_table(results / "ledger.parquet").to_pylist()
    assert {row["clip_id"] for row in rows if row["status"] == "ok"} == set(names)
    assert {row["clip_id"]: row["reason"] for row in rows if row["reason"]} == dict.fromkeys(
        lost, "unavailable"
    )
