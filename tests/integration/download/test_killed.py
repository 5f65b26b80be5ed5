"""kill -9 in the middle of a download, and hostile lists, archives and answers."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline_src.config.data import DownloadConfig
from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.manifest.ledger import read_ledger
from tests.media import QUICK, download, transcode
from tests.server import BODY, running_server

pytestmark = pytest.mark.slow

NAMES = ("-rf", "../../x", "/abs", "a\nb", "a'b\"c`d", "$(touch x)", "Ünï ☃ \u202e", "..", "con")
CHILD = """
import json, sys
from pathlib import Path
from tests.media import download
download(Path(sys.argv[1]), json.loads(sys.argv[2]))
"""


@pytest.fixture
def server():
    with running_server() as server:
        yield server


def reasons_of(path: Path) -> dict[str, str]:
    return {row.clip_id: row.reason for row in read_ledger(path.with_suffix(".ledger.csv"))}


def test_kill_9_loses_nothing_and_fetches_nothing_twice(tmp_path, server, root):
    words = ("slow", "404", "torn", "ill")
    clips = [
        {"clip_id": f"{word}{n}", "source": server.url(f"{word}-{n}.mp4")}
        for n in range(20)
        for word in words
    ]
    clips += [{"clip_id": f"page{n}", "source": server.url("see-good")} for n in range(20)]
    command = [sys.executable, "-c", CHILD, str(tmp_path), json.dumps(clips)]
    child = subprocess.Popen(command, cwd=root, start_new_session=True)
    log = tmp_path / "results/raw/fetched.jsonl"
    while not log.is_file() or log.read_text().count("\n") < 40:
        assert child.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    finished = {json.loads(line)["source"] for line in log.read_text().splitlines() if line}
    before = server.requests.copy()
    server.is_ill = False
    # A reset may take the half of a torn file along that was not read yet, more than once.
    path = download(tmp_path, clips, DownloadConfig(max_attempts=5))
    again = server.requests - before
    done = {source.rpartition("/")[2] for source in finished}
    assert not {name for name in done if not name.startswith("ill")} & set(again)
    expected = Counter({"": 80, "unavailable": 20})
    assert Counter(reasons_of(path).values()) == expected
    manifest = read_chunk(path, "download")
    for clip in manifest.clips:
        assert (path.parent / clip["path"]).read_bytes() == BODY
    leftovers = [p.name for p in (tmp_path / "results/raw").iterdir() if p.name.startswith(".")]
    assert leftovers == []


def test_a_kill_between_log_and_rename_costs_nothing(tmp_path, server):
    clip = {"clip_id": "a", "source": server.url("good.mp4")}
    download(tmp_path, [clip])
    raw = tmp_path / "results/raw"
    (raw / "a.mp4").rename(raw / ".a.mp4.part")
    path = download(tmp_path, [clip])
    assert (raw / "a.mp4").read_bytes() == BODY
    assert server.requests.total() == 1
    assert reasons_of(path) == {"a": ""}


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_hostile_names_stay_inside_and_run_nothing(tmp_path, server, monkeypatch):
    folder, stand = tmp_path / "deep" / "down" / "here", tmp_path / "stand"
    outside = tmp_path / "outside"
    for path in (folder, stand, outside):
        path.mkdir(parents=True)
    monkeypatch.chdir(stand)  # what a name runs would write here
    names = (*NAMES, f"{outside}/abs", f"$(touch {outside}/x)", f"`touch {outside}/y`")
    with tarfile.open(folder / "t.tar", "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(BODY)
            tar.addfile(info, io.BytesIO(BODY))
    before = files_below(tmp_path)
    clips = [{"clip_id": name, "source": f"t.tar::{name}"} for name in names]
    clips += [
        {"clip_id": f"http {name}", "source": server.url(f"good.mp4?{number}&{name!r}")}
        for number, name in enumerate(names)
    ]
    clips += [{"clip_id": f"local {name}", "source": f"no{name}"} for name in names]
    path = download(folder, clips, clip_file="{clip_id}/../{clip_id}.mp4")
    reasons = reasons_of(path)
    assert len(reasons) == len(clips)
    assert {reasons[name] for name in names} == {""}
    assert {reasons[f"http {name}"] for name in names} == {""}
    made = files_below(tmp_path) - before
    assert all(file.is_relative_to(folder / "results") for file in made)
    raw = folder / "results/raw"
    assert {file.parent for file in made if file.read_bytes() == BODY} == {raw}
    assert "corrupt" in reasons_of(transcode(path)).values()  # ffmpeg has seen every name
    assert not files_below(tmp_path) - before - files_below(folder / "results")


def forged(size_field: bytes, kind: bytes = b"0", name: bytes = b"a.mp4") -> bytes:
    """A tar header that declares any size, with a right checksum."""
    header = bytearray(512)
    header[: len(name)] = name
    header[100:108] = b"0000644\0"
    header[124:136] = size_field.ljust(12, b"\0")
    header[156:157] = kind
    header[257:265] = b"ustar  \0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


TEN_GIGABYTES = b"\x80" + (10 << 30).to_bytes(11, "big")
ARCHIVES = {
    "declared 10 GB": (forged(TEN_GIGABYTES) + BODY, "unsupported"),
    "declared 1 GB": (forged(b"%011o" % (1 << 30)) + BODY, "corrupt"),
    "10 GB long name": (forged(TEN_GIGABYTES, b"L") + BODY, "corrupt"),
    "10 GB pax header": (forged(TEN_GIGABYTES, b"x") + BODY, "corrupt"),
    "negative size": (forged(b"\xff" * 11 + b"\x00", name=b"b") * 3, "corrupt"),
    "nested names": (forged(b"00000000000", b"L") * 9000, "corrupt"),
    "device": (forged(b"00000000000", b"3") + bytes(1024), "unavailable"),
    "sparse": (forged(b"00000001000", b"S") + bytes(2048), "unavailable"),
}


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_forged_archives_are_refused_without_harm(tmp_path, server, kind, is_remote):
    content, reason = ARCHIVES[kind]
    (tmp_path / "t.tar").write_bytes(content)
    server.files["t.tar"] = content
    source = server.url("t.tar::a.mp4") if is_remote else "t.tar::a.mp4"
    started = time.monotonic()
    path = download(tmp_path, [{"clip_id": "a", "source": source}])
    (row,) = read_ledger(path.with_suffix(".ledger.csv"))
    assert row.reason == reason
    if "header" in kind or "long name" in kind:
        assert "a header declares" in row.detail  # and nobody tried to read that much
    assert time.monotonic() - started < 30
    raw = tmp_path / "results/raw"
    assert [file.name for file in raw.iterdir()] == ["fetched.jsonl"]


def test_a_page_cannot_choose_where_its_video_goes(tmp_path, server):
    hostile = "../../../../evil%(id)s"
    page = f"<title>{hostile}</title><video src='/good.mp4?x=../../evil.sh'></video>"
    server.files["t"] = f"<html><body>{page}</body></html>".encode()
    folder = tmp_path / "100%(title)s"
    folder.mkdir()
    path = download(folder, [{"clip_id": "a", "source": server.url("t")}])
    assert reasons_of(path)["a"] in ("", "unsupported")
    assert all(file.is_relative_to(folder / "results") for file in files_below(tmp_path))


def test_a_large_answer_is_cut_off_at_the_limit(tmp_path, server):
    config = DownloadConfig(max_bytes=1_000_000, max_attempts=1)
    clips = [{"clip_id": name, "source": server.url(f"{name}.mp4")} for name in ("huge", "endless")]
    path = download(tmp_path, clips, config, network=QUICK)
    assert set(reasons_of(path).values()) == {"unsupported"}
