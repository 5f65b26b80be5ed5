"""Archives as people make them, on this machine and at a URL."""

import gzip
import io
import random
import tarfile
import unicodedata
import zipfile

import pytest

from pipeline_src.config.data import DownloadConfig
from pipeline_src.download.archives import member_sizes
from pipeline_src.manifest.chunks import read_chunk
from tests.media import clips_of, download, rows_of
from tests.server import BODY, running_server

OLD, NEW = b"\0old" * 500, b"\0new" * 700
ACCENT = "v/caf\u00e9.mp4"
LONG = "v/" + "n" * 110 + "/" + "m" * 110 + "/a.mp4"


@pytest.fixture(scope="module")
def server():
    with running_server() as server:
        yield server


def tar_of(*members, **options):
    """A tar of (name, body) and of (name, type, link)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", **options) as tar:
        for name, content, *link in members:
            info = tarfile.TarInfo(name)
            if link:
                info.type, info.linkname = content, link[0]
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(*members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


PLAIN = tar_of(("v/a.mp4", OLD))
LINK, SYMLINK = tarfile.LNKTYPE, tarfile.SYMTYPE
GNU = {"format": tarfile.GNU_FORMAT}
# file name, content, member, what is found
FOUND = {
    "dot": ("a.tar", tar_of(("./v/a.mp4", OLD)), "v/a.mp4", OLD),
    "asked with dot": ("a.tar", PLAIN, "./v/a.mp4", OLD),
    "updated": ("a.tar", tar_of(("a", OLD), ("b", OLD), ("a", NEW)), "a", NEW),
    "updated as dot": ("a.tar", tar_of(("./a", OLD), ("./a", NEW)), "a", NEW),
    "exact first": ("a.tar", tar_of(("a", NEW), ("./a", OLD)), "a", NEW),
    "hard link": ("a.tar", tar_of(("a", OLD), ("b", LINK, "a")), "b", OLD),
    "dotted link": ("a.tar", tar_of(("./a", OLD), ("./b", LINK, "./a")), "b", OLD),
    "link of link": ("a.tar", tar_of(("a", OLD), ("b", LINK, "a"), ("c", LINK, "b")), "c", OLD),
    "link replaced": ("a.tar", tar_of(("a", OLD), ("b", LINK, "a"), ("b", NEW)), "b", NEW),
    "link replaced by a link": (
        "a.tar",
        tar_of(("a", OLD), ("b", NEW), ("c", LINK, "b"), ("c", LINK, "a")),
        "c",
        OLD,
    ),
    "linked replaced": ("a.tar", tar_of(("a", OLD), ("b", LINK, "a"), ("a", NEW)), "b", OLD),
    "linked replaced before": (
        "a.tar",
        tar_of(("a", OLD), ("a", NEW), ("b", LINK, "a"), ("./a", OLD)),
        "b",
        NEW,
    ),
    "linked replaced by a link to it": (
        "a.tar",
        tar_of(("a", OLD), ("b", LINK, "a"), ("a", LINK, "b")),
        "a",
        OLD,
    ),
    "link of link replaced": (
        "a.tar",
        tar_of(("a", OLD), ("b", LINK, "a"), ("c", LINK, "b"), ("a", NEW), ("b", NEW)),
        "c",
        OLD,
    ),
    "linked replaced in the next": (
        "a.tar",
        tar_of(("a", OLD), ("b", LINK, "a")) + tar_of(("a", NEW)),
        "b",
        OLD,
    ),
    "link first": ("a.tar", tar_of(("b", LINK, "a"), ("a", OLD)), "b", OLD),
    "absolute": ("a.tar", tar_of(("/v/a.mp4", OLD)), "v/a.mp4", OLD),
    "asked absolute": ("a.tar", PLAIN, "/v/a.mp4", OLD),
    "two slashes": ("a.tar", tar_of(("v//a.mp4", OLD)), "v/a.mp4", OLD),
    "backslash": ("a.tar", tar_of(("v\\a.mp4", OLD)), "v/a.mp4", OLD),
    "asked with backslash": ("a.tar", PLAIN, "v\\a.mp4", OLD),
    "exact backslash first": (
        "a.tar",
        tar_of(("v\\a.mp4", NEW), ("v/a.mp4", OLD)),
        "v\\a.mp4",
        NEW,
    ),
    "tar.gz": ("a.tar.gz", gzip.compress(PLAIN), "v/a.mp4", OLD),
    "link in tgz": ("a.tgz", gzip.compress(tar_of(("a", OLD), ("b", LINK, "a"))), "b", OLD),
    "gz named tar": ("a.tar", gzip.compress(PLAIN), "v/a.mp4", OLD),
    "upper case": ("A.TAR", PLAIN, "v/a.mp4", OLD),
    "nfd": ("a.tar", tar_of((unicodedata.normalize("NFD", ACCENT), OLD)), ACCENT, OLD),
    "nfc": ("a.tar", tar_of((ACCENT, OLD)), unicodedata.normalize("NFD", ACCENT), OLD),
    "latin-1": ("a.tar", tar_of((ACCENT, OLD), encoding="latin-1", **GNU), ACCENT, OLD),
    "long name": ("a.tar", tar_of((LONG, OLD), **GNU), LONG, OLD),
    "joined": ("a.tar", tar_of(("a", OLD)) + tar_of(("b", NEW)), "b", NEW),
    "joined, last counts": ("a.tar", tar_of(("a", OLD)) + tar_of(("a", NEW)), "a", NEW),
    "joined and packed": (
        "a.tgz",
        gzip.compress(PLAIN) + gzip.compress(tar_of(("b", NEW))),
        "b",
        NEW,
    ),
    "rubbish behind gzip": ("a.tgz", gzip.compress(PLAIN) + b"rubbish", "v/a.mp4", OLD),
    "cut behind it": ("a.tgz", gzip.compress(tar_of(("b", OLD), ("c", BODY)))[:-20], "b", OLD),
    "more zeros": ("a.tar", PLAIN + bytes(100_352) + tar_of(("b", NEW)), "b", NEW),
    "rubbish behind": ("a.tar", PLAIN + b"rubbish" * 999, "v/a.mp4", OLD),
}
LOST = {
    "symbolic link": (tar_of(("a", OLD), ("b", SYMLINK, "a")), "unavailable", "a symbolic link"),
    "link to nothing": (tar_of(("b", LINK, "../secret")), "unavailable", "a hard link"),
    "link to itself": (tar_of(("b", LINK, "b")), "unavailable", "a hard link"),
    "rubbish behind": (PLAIN + b"rubbish" * 999, "corrupt", "no header at byte"),
    "bzip2": (b"BZh91AY&SY" + bytes(99), "unsupported", "compressed with bzip2; allowed are .tar"),
    "cut gzip": (gzip.compress(tar_of(("b", BODY)))[:-300], "corrupt", "ended before"),
    "no tar in it": (gzip.compress(b"no tar" * 999), "corrupt", "header"),
    "empty": (b"", "corrupt", "empty"),
}


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("case", FOUND)
def test_a_member_is_found(tmp_path, server, case, is_remote):
    name, content, member, body = FOUND[case]
    path = fetch_member(tmp_path, server, name, content, member, is_remote)
    assert clips_of(path) == {"x": body}, rows_of(path)


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("case", LOST)
def test_a_member_that_is_lost_says_why(tmp_path, server, case, is_remote):
    content, reason, words = LOST[case]
    if is_remote and case == "empty":
        reason, words = "truncated", "an empty answer"
    row = rows_of(fetch_member(tmp_path, server, "a.tar", content, "b", is_remote))["x"]
    assert (row.reason, words in row.detail) == (reason, True), row


def fetch_member(folder, server, name, content, member, is_remote):
    (folder / name).write_bytes(content)
    server.files[name] = content
    source = server.url(name) if is_remote else name
    config = DownloadConfig(max_attempts=1)
    return download(folder, [{"clip_id": "x", "source": f"{source}::{member}"}], config)


def test_members_of_a_zip_and_what_is_not_read_of_one(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of(("v/a.mp4", OLD), ("./b", NEW), ("v/", b"")))
    (tmp_path / "c.ZIP").write_bytes(zip_of(("a", OLD), method=zipfile.ZIP_LZMA))
    whole = zip_of(("a", OLD), method=zipfile.ZIP_STORED)
    (tmp_path / "d.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "e.zip").write_bytes(whole.replace(b"old", b"odd", 1))
    members = ("a.zip::v/a.mp4", "a.zip::b", "a.zip::v/", "c.ZIP::a", "d.zip::a", "e.zip::a")
    path = download(tmp_path, [{"source": source} for source in members])
    assert clips_of(path) == {"a.zip::v/a.mp4": OLD, "a.zip::b": NEW}
    rows = rows_of(path)
    reasons = [rows[source].reason for source in members[2:]]
    assert reasons == ["unavailable", "unavailable", "corrupt", "corrupt"]
    assert "compressed in another way than deflate" in rows["c.ZIP::a"].detail
    assert member_sizes(tmp_path / "a.zip") == {"v/a.mp4": len(OLD), "b": len(NEW)}


def test_members_of_a_zip_under_names_of_other_systems(tmp_path):
    members = ((r"v\a.mp4", OLD), ("/v/b.mp4", NEW), ("v//c.mp4", OLD), (r"..\..\d.mp4", NEW))
    (tmp_path / "a.zip").write_bytes(zip_of(*members))
    sources = [f"a.zip::{name}" for name in ("v/a.mp4", "v/b.mp4", "./v/c.mp4", "../../d.mp4")]
    path = download(tmp_path, [{"source": source} for source in (*sources, "a.zip::d.mp4")])
    assert clips_of(path) == dict(zip(sources, (OLD, NEW, OLD, NEW), strict=True))
    raw = tmp_path / "results/raw"
    assert {(path.parent / clip["path"]).resolve().parent for clip in read_clips(path)} == {raw}


def read_clips(path):
    return read_chunk(path, "download").clips


NOISE = b"\0" + random.Random(0).randbytes(300_000)  # stays as it is in gzip: one byte, one byte
PACKED = gzip.compress(tar_of(("a", NOISE), ("b", NOISE)))
STORED = gzip.compress(tar_of(("a", NOISE), ("b", NOISE)), 0)
SECOND_BLOCK = 15 + int.from_bytes(STORED[11:13], "little")
DAMAGED = {
    "a byte of the first": (PACKED, 100_000, "CRC check failed"),
    "the checksum": (PACKED, len(PACKED) - 6, "CRC check failed"),
    "the length": (PACKED, len(PACKED) - 2, "Incorrect length"),
    "a block's length": (STORED, SECOND_BLOCK + 1, "invalid stored block"),
    "a header of the tar": (STORED, STORED.rindex(b"0000644"), "CRC check failed"),
    "the second stream": (PACKED + PACKED, 2 * len(PACKED) - 6, "CRC check failed"),
}


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("case", DAMAGED)
def test_no_clip_is_taken_of_what_gzip_says_is_wrong(tmp_path, server, case, is_remote):
    """Any byte before it may be wrong; at a URL it may have been on the way."""
    content, place, words = DAMAGED[case]
    damaged = bytearray(content)
    damaged[place] ^= 1
    (tmp_path / "a.tgz").write_bytes(damaged)
    server.files["a.tgz"] = bytes(damaged)
    archive = server.url("a.tgz") if is_remote else "a.tgz"
    clips = [{"clip_id": name, "source": f"{archive}::{name}"} for name in "ab"]
    rows = rows_of(download(tmp_path, clips, DownloadConfig(max_attempts=1)))
    assert {row.reason for row in rows.values()} == {"network" if is_remote else "corrupt"}, rows
    assert all("any byte" in row.detail and words in row.detail for row in rows.values()), rows
    assert not list((tmp_path / "results/raw").glob(".*.part"))
    (tmp_path / "a.tgz").write_bytes(content)
    server.files["a.tgz"] = content
    assert clips_of(download(tmp_path, clips))["a"] == NOISE


def test_two_spellings_of_one_member_and_a_file_that_is_named_like_a_member(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of(("v/a.mp4", OLD)))
    (tmp_path / "b.tar::c.mp4").write_bytes(NEW)
    (tmp_path / unicodedata.normalize("NFD", "caf\u00e9.mp4")).write_bytes(BODY)
    sources = ("a.tar::v/a.mp4", "a.tar::./v/a.mp4", "b.tar::c.mp4", "caf\u00e9.mp4")
    path = download(tmp_path, [{"source": source} for source in sources])
    assert list(clips_of(path).values()) == [OLD, OLD, NEW, BODY]


def test_an_archive_that_grows_without_end_when_unpacked_ends_at_the_deadline(tmp_path):
    (tmp_path / "a.tgz").write_bytes(gzip.compress(tar_of(("b", bytes(60 << 20)))))
    config = DownloadConfig(max_transfer_seconds=0.01, max_attempts=1)
    row = rows_of(download(tmp_path, [{"clip_id": "x", "source": "a.tgz::c"}], config))["x"]
    assert (row.reason, "not read in time" in row.detail) == ("timeout", True)
