"""Fetching: local files, archive members, and a real HTTP server that misbehaves on demand."""

import hashlib
import io
import shutil
import socket
import tarfile

import pytest

from pipeline_src.config.data import DownloadConfig
from pipeline_src.datasets.sources import source_kind, split_member
from pipeline_src.download.chunk import download_chunk
from pipeline_src.download.fetch import Fetcher
from pipeline_src.download.source_choices import ClipSources
from pipeline_src.download.sources import raw_extension
from pipeline_src.errors import StageError
from pipeline_src.manifest.chunks import ChunkId, read_chunk
from pipeline_src.manifest.ledger import read_ledger
from tests.media import QUICK, download, write_plan_chunk
from tests.server import BODY, running_server


@pytest.fixture
def server():
    with running_server() as server:
        yield server


def fetch(folder, *sources, config=None):
    """Run the stage; return manifest rows and ledger rows by source."""
    path = download(folder, [{"source": source} for source in sources], config)
    manifest = read_chunk(path, "download")
    rows = {row.clip_id: row for row in read_ledger(path.with_suffix(".ledger.csv"))}
    return path, {clip["source"]: clip for clip in manifest.clips}, rows


def local_chunk(tmp_path, root, *sources):
    """Arguments of a chunk of local files."""
    clips = [{"clip_id": f"c{n}", "source": name} for n, name in enumerate(sources or ["a.mp4"])]
    return {
        "chunk_csv": write_plan_chunk(tmp_path / "plan/00000.csv", clips),
        "id": ChunkId("toy", "train", "00000"),
        "sources": ClipSources(root),
        "raw_folder": tmp_path / "raw",
        "limits_folder": tmp_path / ".hosts",
        "manifest_path": tmp_path / "00000.json",
        "ledger_path": tmp_path / "00000.ledger.csv",
        "config": DownloadConfig(),
        "rate_limits": QUICK,
        "ffmpeg": "",
        "version": 1,
    }


def reasons_of(tmp_path):
    """Why clips were lost."""
    return [one["reason"] for one in read_chunk(tmp_path / "00000.json", "download").dropped]


@pytest.mark.parametrize(
    ("root", "holds", "what"),
    [
        ("nowhere", None, "is no folder"),
        ("empty", None, "is empty"),
        ("new_disk", "lost+found", "is empty"),
        ("hidden", ".keep", "is empty"),
    ],
)
def test_a_root_whose_disk_is_away_is_no_loss_of_every_clip(tmp_path, root, holds, what):
    """Its clips became rows of the ledger, and good shards were replaced by empty ones."""
    if root != "nowhere":
        (tmp_path / root / (holds or "")).mkdir(parents=True)
    arguments = local_chunk(tmp_path, tmp_path / root)
    with pytest.raises(StageError, match=f"{root} {what}, and source 'a.mp4'.*mount its disk"):
        download_chunk(**arguments)
    assert not (tmp_path / "00000.json").exists()
    download_chunk(**local_chunk(tmp_path, tmp_path / root, "/nowhere/a.mp4"))  # needs no root
    assert reasons_of(tmp_path) == ["unavailable"]


def test_a_disk_below_the_root_may_be_away_too(tmp_path):
    (tmp_path / "disk1").mkdir()
    (tmp_path / "notes.txt").touch()
    sources = ("gone.mp4", "nowhere/gone.mp4", *(f"disk1/{n}.mp4" for n in range(3)))
    with pytest.raises(StageError, match=r"disk1 is empty, and source 'disk1/0.*; or delete it"):
        download_chunk(**local_chunk(tmp_path, tmp_path, *sources))
    below = [source.replace("disk1", "disk1/by/dog") for source in sources]
    with pytest.raises(StageError, match=r"disk1 is empty, and source 'disk1/by/dog/0"):
        download_chunk(**local_chunk(tmp_path, tmp_path, *below))
    (tmp_path / "disk1").rmdir()
    download_chunk(**local_chunk(tmp_path, tmp_path, *sources))
    assert reasons_of(tmp_path) == ["unavailable"] * 5


def test_folders_that_are_empty_are_counted_and_hidden_files_are_files(tmp_path):
    """One folder was named a call, and deleting an "empty" one lost what was hidden in it."""
    sources = [f"d{n}/{n}.mp4" for n in range(4)]
    for source in sources:
        (tmp_path / source).parent.mkdir()
    (tmp_path / ".other").touch()
    with pytest.raises(StageError, match=r"d0 is empty.*\(3 more folders are empty\)"):
        download_chunk(**local_chunk(tmp_path, tmp_path, *sources))
    for source in sources:
        (tmp_path / source).with_name(".clips").touch()
    download_chunk(**local_chunk(tmp_path, tmp_path, *sources))
    assert reasons_of(tmp_path) == ["unavailable"] * 4


def test_the_root_itself_is_not_to_be_deleted(tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(StageError, match=r"root is empty.*; or take its clips out of the list$"):
        download_chunk(**local_chunk(tmp_path, tmp_path / "root"))


def test_ready_cut_clips_need_no_folder_of_the_whole_videos(tmp_path):
    for name in ("videos", "ready"):
        (tmp_path / name).mkdir()
    for n in range(2):
        (tmp_path / f"ready/c{n}.mp4").write_bytes(b"1")
    arguments = local_chunk(tmp_path, tmp_path, "videos/0.mp4", "videos/1.mp4")
    download_chunk(**arguments | {"sources": ClipSources(tmp_path, "ready/{clip_id}.mp4")})
    assert reasons_of(tmp_path) == []


def test_files_that_are_gone_from_a_folder_are_rows_where_others_are_there(tmp_path):
    """An empty folder that is left of them refused the whole chunk."""
    for name in ("a", "b", "left"):
        (tmp_path / name).mkdir()
    (tmp_path / "left/.keep").touch()
    there = [f"{folder}/{n}.mp4" for folder in "ab" for n in range(2)]
    for name in there:
        (tmp_path / name).write_bytes(b"1")
    download_chunk(**local_chunk(tmp_path, tmp_path, "left/0.mp4", *there, "left/1.mp4", "a/9.mp4"))
    assert reasons_of(tmp_path) == ["unavailable"] * 3


def test_a_file_beside_an_empty_root_is_found(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"1")
    download_chunk(**local_chunk(tmp_path, tmp_path / "root", "../a.mp4"))
    assert not read_chunk(tmp_path / "00000.json", "download").dropped


def test_a_disk_that_goes_while_its_files_are_read_is_no_loss_either(tmp_path, monkeypatch):
    root = tmp_path / "disk"
    root.mkdir()
    (root / "a.mp4").write_bytes(b"1")
    fetch = Fetcher.fetch_all

    def unmounted_first(self, *arguments):
        shutil.rmtree(root)
        return fetch(self, *arguments)

    monkeypatch.setattr(Fetcher, "fetch_all", unmounted_first)
    with pytest.raises(StageError, match=r"disk is no folder, and source 'a.mp4'"):
        download_chunk(**local_chunk(tmp_path, root))
    assert not (tmp_path / "00000.json").exists()


def test_sources_are_told_apart_by_their_form():
    kinds = {
        "a/b.mp4": "local",
        "/abs/b.mp4": "local",
        "a.tar::b/c.mp4": "member",
        "http://h/x.mp4": "http",
        "HTTPS://h/x.mp4": "http",
        "youtube:--abc": "youtube",
        "https://h/a.tar::b/c.mp4": "member",
        "a.TAR::b": "member",
        "a.tar.gz::b": "member",
        "a.tgz::b": "member",
        "a.zip::b": "member",
        "youtube: my dog.mkv": "local",
        "s3://bucket/x.mp4": "unsupported",
        "file:///etc/passwd": "unsupported",
    }
    assert {source: source_kind(source) for source in kinds} == kinds
    assert split_member("d/a.tar::b.tar::c.mp4") == ("d/a.tar", "b.tar::c.mp4")
    assert split_member("d/a.tar.gz::b.zip::c.mp4") == ("d/a.tar.gz", "b.zip::c.mp4")
    assert raw_extension("http://h/x.MP4?name=.sh/../y") == ".mp4"
    assert raw_extension("a.tar::x.m'p;4") == ".bin"


def test_local_files_stay_in_place(tmp_path):
    (tmp_path / "a.mp4").write_bytes(BODY)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    path, clips, rows = fetch(tmp_path, "a.mp4", "empty.mp4", "folder.mp4", "no.mp4", "x" * 999)
    assert clips["a.mp4"]["path"] == str(tmp_path / "a.mp4")
    assert clips["a.mp4"]["sha256"] == hashlib.sha256(BODY).hexdigest()
    reasons = [row.reason for row in rows.values()]
    assert reasons == ["", "corrupt", "unavailable", "unavailable", "unavailable"]
    assert read_chunk(path, "download").num_in == 5


def make_archive(path, members):
    with tarfile.open(path, "w") as tar:
        for info, data in members:
            info = tarfile.TarInfo(info) if isinstance(info, str) else info
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize("is_remote", [False, True])
def test_only_regular_members_are_extracted_and_only_into_the_raw_folder(
    tmp_path, server, is_remote
):
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    members = [
        ("x/a.mp4", BODY),
        ("../../evil.mp4", b"evil"),
        ("/abs.mp4", b"abs"),
        link("link.mp4", "../../secret.mp4"),
        link("hard.mp4", "x/a.mp4", tarfile.LNKTYPE),
        ("empty.mp4", b""),
    ]
    make_archive(tmp_path / "t.tar", members)
    names = ["x/a.mp4", "../../evil.mp4", "/abs.mp4", "link.mp4", "hard.mp4", "empty.mp4", "no.mp4"]
    server.files["t.tar"] = (tmp_path / "t.tar").read_bytes()
    prefix = server.url("t.tar::") if is_remote else "t.tar::"
    path, clips, rows = fetch(tmp_path, *(f"{prefix}{name}" for name in names))
    reasons = [row.reason for row in rows.values()]
    assert reasons == ["", "", "", "unavailable", "", "corrupt", "unavailable"]
    raw = tmp_path / "results" / "raw"
    stored = {(path.parent / clip["path"]).resolve() for clip in clips.values()}
    assert all(file.parent == raw for file in stored)
    assert {file.read_bytes() for file in stored} == {BODY, b"evil", b"abs"}
    assert not list(tmp_path.parent.glob("evil*"))


def test_one_member_may_serve_several_clips(tmp_path):
    make_archive(tmp_path / "t.tar", [("a.mp4", BODY)])
    clips = [{"clip_id": f"c{n}", "source": "t.tar::a.mp4"} for n in range(2)]
    manifest = read_chunk(download(tmp_path, clips), "download")
    assert len({clip["path"] for clip in manifest.clips}) == 1
    assert len(manifest.clips) == 2


@pytest.mark.parametrize("damage", ["cut", "text", "missing"])
def test_a_bad_archive_loses_its_clips_only(tmp_path, damage):
    make_archive(tmp_path / "t.tar", [("a.mp4", BODY), ("b.mp4", BODY)])
    (tmp_path / "fine.mp4").write_bytes(BODY)
    whole = (tmp_path / "t.tar").read_bytes()
    if damage == "missing":
        (tmp_path / "t.tar").unlink()
    else:
        bad = whole[: len(BODY) + 2000] if damage == "cut" else b"no archive " * 900
        (tmp_path / "t.tar").write_bytes(bad)
    _, _, rows = fetch(tmp_path, "t.tar::a.mp4", "t.tar::b.mp4", "fine.mp4")
    expected = {
        "cut": ["", "corrupt", ""],
        "text": ["corrupt", "corrupt", ""],
        "missing": ["unavailable", "unavailable", ""],
    }
    assert [row.reason for row in rows.values()] == expected[damage]


@pytest.mark.slow
def test_http_bodies_and_every_kind_of_failure(tmp_path, server):
    expected = {
        "good.mp4": ("", 1),
        "flaky.mp4": ("", 2),
        "404": ("unavailable", 1),
        "410": ("unavailable", 1),
        "403": ("private", 1),
        "451": ("geo_blocked", 1),
        "429": ("rate_limited", 0),  # not counted
        "500": ("network", 2),
        "cut.mp4": ("truncated", 2),
        "reset.mp4": ("network", 2),
        "empty.mp4": ("truncated", 2),
        "endless.mp4": ("unsupported", 1),
        "huge.mp4": ("unsupported", 1),
        "see-good": ("", 1),
        "text.mp4": ("unavailable", 1),
        "json.mp4": ("unsupported", 1),
        "mistyped.mp4": ("", 1),
    }
    config = DownloadConfig(timeout_seconds=30, max_attempts=2, max_bytes=2_000_000)
    urls = {server.url(name): name for name in expected}
    path, clips, rows = fetch(tmp_path, *urls, config=config)
    assert {urls[url]: (row.reason, row.attempts) for url, row in rows.items()} == expected
    stored = path.parent / clips[server.url("good.mp4")]["path"]
    assert stored.read_bytes() == BODY
    kept = {file.name for file in (tmp_path / "results" / "raw").iterdir()}
    assert len(kept) == 5  # four bodies and the log: nothing half-written
    assert not any(name.endswith(".part") for name in kept)


@pytest.mark.slow
def test_a_server_that_falls_silent_is_a_timeout(tmp_path, server):
    url = server.url("hang.mp4?hash=TOKEN")
    row = fetch(tmp_path, url, config=DownloadConfig(timeout_seconds=0.5, max_attempts=2))[2][url]
    assert (row.reason, row.attempts) == ("timeout", 2)
    assert "TOKEN" not in row.detail


def test_nobody_listening_is_a_network_error(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.mp4"
        row = fetch(tmp_path, url, config=DownloadConfig(max_attempts=1))[2][url]
    assert row.reason == "network"
    assert row.detail.startswith(f"{url}: Failed to establish a new connection: ")


def test_what_is_there_whole_is_not_fetched_again(tmp_path, server):
    urls = [server.url(name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    path, clips, _ = fetch(tmp_path, *urls)
    first = path.read_bytes()
    damaged = path.parent / clips[urls[1]]["path"]
    damaged.write_bytes(BODY[:-1])
    log = tmp_path / "results" / "raw" / "fetched.jsonl"
    with log.open("a") as stream:
        stream.write('{"file": "torn by a ki')
    path, _, rows = fetch(tmp_path, *urls)
    assert server.requests == {"a.mp4": 1, "b.mp4": 2, "c.mp4": 1}
    assert [rows[url].attempts for url in urls] == [1, 2, 1]  # of all jobs
    assert path.read_bytes() == first
    fetch(tmp_path, *urls)
    assert server.requests.total() == 4


def test_a_changed_source_is_fetched_again(tmp_path, server):
    clip = {"clip_id": "a", "source": server.url("a.mp4")}
    download(tmp_path, [clip])
    download(tmp_path, [{**clip, "source": server.url("other.mp4")}])
    assert server.requests == {"a.mp4": 1, "other.mp4": 1}


def test_a_ready_cut_clip_is_taken_whole_before_its_source(tmp_path):
    (tmp_path / "there_000030.mp4").write_bytes(BODY)
    outside = tmp_path.parent / "outside.mp4"
    outside.write_bytes(BODY)
    clips = [
        {"clip_id": name, "source": "s3://x", "start_seconds": "30.0", "end_seconds": "40.0"}
        for name in ("there_000030", "gone_000001", f"../{outside.stem}")
    ]
    path = download(tmp_path, clips, clip_file="{clip_id}.mp4")
    found = read_chunk(path, "download").clips
    assert [(clip["clip_id"], clip["source"]) for clip in found] == [
        ("there_000030", "there_000030.mp4")
    ]
    assert (found[0]["start_seconds"], found[0]["end_seconds"]) == (None, None)
    reasons = {row.clip_id: row.reason for row in read_ledger(path.with_suffix(".ledger.csv"))}
    assert reasons["gone_000001"] == reasons["../outside"] == "unsupported"
