"""Answers as servers give them: continued, packed, preceded by others, and put off."""

import functools
import gzip
import io
import tarfile
import zlib

import pytest

from pipeline_src.config.data import DownloadConfig
from tests.media import clips_of, download, download_one, rows_of
from tests.server import BODY, answer, running_server

ONCE = DownloadConfig(max_attempts=1)
OTHER = b"\0other" * 60_000
HALF = len(BODY) // 2
DATE, LATER = "Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"


@pytest.fixture(scope="module")
def server():
    with running_server() as server:
        yield server


def change(server, first, then, body):
    """Serve half of BODY under the headers ``first``; then ``body`` under ``then``.

    If-Range is not heeded, as behind some caches: what is asked for is served of what is there.
    """

    def serve(handler):
        begun.append(handler.headers.get("Range", ""))
        if len(begun) == 1:
            handler.wfile.write(answer(BODY, **first)[: HALF - len(BODY)])
            handler.hang_up()
            return
        start = int(begun[-1].removeprefix("bytes=").rstrip("-") or 0)
        span = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        status = "206 P" if start else "200 OK"
        handler.wfile.write(answer(body[start:], status=status, **span, **then))

    begun = []
    server.raw["a.mp4"] = serve
    return begun


SIZED = OTHER[: len(BODY)].ljust(len(BODY), b"\1")
CHANGED = {
    "tag": ({"ETag": '"1"'}, {"ETag": '"2"'}, SIZED),
    "tag is gone": ({"ETag": '"1"'}, {}, SIZED),
    "weak tag": (
        {"ETag": 'W/"1"', "Last_Modified": DATE},
        {"ETag": 'W/"2"', "Last_Modified": DATE},
        SIZED,
    ),
    "date": ({"Last_Modified": DATE}, {"Last_Modified": LATER}, SIZED),
    "date under one tag": (
        {"ETag": '"1"', "Last_Modified": DATE},
        {"ETag": '"1"', "Last_Modified": LATER},
        SIZED,
    ),
    "size": ({"Last_Modified": DATE}, {}, OTHER),
    "size under one tag": ({"ETag": '"1"'}, {"ETag": '"1"'}, OTHER),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_rest_of_another_body_is_not_appended(tmp_path, server, case):
    first, then, body = CHANGED[case]
    asked = change(server, first, then, body)
    download_one(tmp_path, server.url("a.mp4"), ONCE)
    row, found = download_one(tmp_path, server.url("a.mp4"), ONCE)
    assert (row.status, found) == ("ok", body), row
    assert asked == ["", f"bytes={HALF}-", ""]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"ETag": '"1"'}, {"ETag": '"1"'}),
        ({"ETag": 'W/"1"', "Last_Modified": DATE}, {"ETag": '"1"', "Last_Modified": DATE}),
        ({"Last_Modified": DATE}, {}),  # RFC 9110, 15.3.7: need not be said again
    ],
)
def test_a_rest_of_the_same_body_is(tmp_path, server, first, then):
    asked = change(server, first, then, BODY)
    download_one(tmp_path, server.url("a.mp4"), ONCE)
    row, found = download_one(tmp_path, server.url("a.mp4"), ONCE)
    assert (row.status, found) == ("ok", BODY), row
    assert asked == ["", f"bytes={HALF}-"]


def test_a_body_that_changes_between_its_pieces_is_not_glued(tmp_path, server):
    """A server that answers 206 with halves, of another body each time."""
    count = [0]

    def half(handler):
        count[0] += 1
        start = HALF if f"bytes={HALF}-" in handler.headers.get("Range", "") else 0
        span = f"bytes {start}-{start + HALF - 1}/{2 * HALF}"
        tag = f'"{count[0]}"'
        handler.wfile.write(answer(BODY[:HALF], status="206 P", Content_Range=span, ETag=tag))

    server.raw["halves.mp4"] = half
    row, _ = download_one(tmp_path, server.url("halves.mp4"), ONCE)
    assert row.reason == "truncated"
    assert count == [3]


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


GZIP = gzip.compress(BODY)
# A run that ends in the middle of a block of output: nothing behind it asks for the rest.
RUN = b"\0" + bytes(range(256)) * 20 + bytes(3 << 18)
PACKED = {
    "members": (gzip.compress(BODY[:HALF]) + gzip.compress(BODY[HALF:]), "gzip"),
    "member a byte": (b"".join(gzip.compress(BODY[n : n + 1]) for n in range(6000)), "gzip"),
    "empty member": (gzip.compress(b"") + GZIP, "gzip"),
    "padded": (GZIP + bytes(999), "gzip"),
    "case and spaces": (GZIP, "  GZip "),
    "x-gzip": (GZIP, "X-GZIP"),
    "zlib": (zlib.compress(BODY), "deflate"),
    "raw": (raw_deflate(BODY), "Deflate"),
    "raw, stored": (b"\0\x06\0\xf9\xff" + BODY[:6] + raw_deflate(BODY[6:]), "deflate"),
    "raw run": (raw_deflate(RUN), "deflate"),
    "gzip called deflate": (GZIP, "deflate"),
    "identity": (BODY, "Identity"),
    "nothing": (BODY, " , "),
    "twice": (gzip.compress(GZIP), "gzip, gzip"),
    "two kinds": (gzip.compress(raw_deflate(BODY)), "deflate,identity, x-gzip"),
}
BODIES = {"member a byte": BODY[:6000], "raw run": RUN}


@pytest.mark.parametrize("case", PACKED)
def test_a_body_is_unpacked_whole_however_its_packing_is_spelt(tmp_path, server, case):
    content, encoding = PACKED[case]
    server.raw["a.mp4"] = answer(content, Content_Encoding=encoding)
    row, found = download_one(tmp_path, server.url("a.mp4"), ONCE)
    assert row.status == "ok", row
    assert found == BODIES.get(case, BODY)


def test_a_packed_body_that_comes_a_byte_at_a_time(tmp_path, server):
    packings = {
        "gzip": gzip.compress(b"\0ab") + gzip.compress(b"\0cd"),
        "deflate": raw_deflate(b"\0ab\0cd"),
    }

    def send(handler, coding, packed):
        handler.wfile.write(answer(Content_Encoding=coding, Content_Length=str(len(packed))))
        for byte in packed:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()

    for coding, packed in packings.items():
        server.raw["slowly.mp4"] = functools.partial(send, coding=coding, packed=packed)
        _, found = download_one(tmp_path / coding, server.url("slowly.mp4"), ONCE)
        assert found == b"\0ab\0cd"


DAMAGED = {
    "second cut": (GZIP + GZIP[:-20], "gzip", "truncated", "ends in the middle"),
    "second damaged": (GZIP + GZIP[:-8] + bytes(8), "gzip", "network", "data check"),
    "rubbish behind": (GZIP + b"rubbish", "gzip", "network", "header check"),
    "inner cut": (gzip.compress(GZIP[:-20]), "gzip, gzip", "truncated", "ends in the middle"),
    "no deflate": (b"\x07" + BODY, "deflate", "network", "invalid block type"),
    "unknown": (BODY, "BR", "unsupported", "Content-Encoding br; read are gzip, x-gzip, deflate"),
    "unknown in a list": (GZIP, "gzip, br", "unsupported", "Content-Encoding gzip, br; read"),
    "many": (GZIP, "gzip, " * 9, "unsupported", "Content-Encoding gzip, gzip"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_packed_body_that_cannot_be_unpacked_says_why(tmp_path, server, case):
    content, encoding, reason, words = DAMAGED[case]
    server.raw["a.mp4"] = answer(content, Content_Encoding=encoding)
    row, _ = download_one(tmp_path, server.url("a.mp4"), ONCE)
    assert (row.reason, words in row.detail) == (reason, True), row


def test_a_body_packed_twice_over_ends_at_the_deadline(tmp_path, server):
    """Unpacked once it is zeros behind an empty member: they give nothing that could be counted."""
    zeros = gzip.compress(bytes(64 << 20))
    content = gzip.compress(gzip.compress(b"")) + zeros * 30
    server.raw["a.mp4"] = answer(content, Content_Encoding="gzip, gzip")
    config = DownloadConfig(max_attempts=1, max_transfer_seconds=0.3)
    row, _ = download_one(tmp_path, server.url("a.mp4"), config)
    assert (row.reason, "not done after 0.3 s" in row.detail) == ("timeout", True), row


@pytest.mark.parametrize("first", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_informational_answers_are_skipped(tmp_path, server, first):
    early = f'HTTP/1.1 {first}\r\nLink: </a.css>; rel=preload\r\nETag: "0"\r\n\r\n'.encode()
    server.raw["a.mp4"] = 2 * early + answer(BODY)
    server.raw["b.mp4"] = 2 * early + answer(status="404 Not Found")
    clips = [{"clip_id": name, "source": server.url(f"{name}.mp4")} for name in "ab"]
    path = download(tmp_path, clips, ONCE)
    assert clips_of(path) == {"a": BODY}
    assert rows_of(path)["b"].reason == "unavailable"


@pytest.mark.parametrize("status", [407, 421, 423, 425])
def test_a_status_that_says_nothing_of_the_clip_is_retried(tmp_path, server, status):
    row, _ = download_one(tmp_path, server.url(f"{status}.mp4"))
    assert (row.reason, row.attempts) == ("network", 2)
    server.raw[f"{status}.mp4"] = answer(BODY)
    row, found = download_one(tmp_path, server.url(f"{status}.mp4"))
    assert (row.status, found) == ("ok", BODY)
    del server.raw[f"{status}.mp4"]


@pytest.mark.parametrize("change", ["tag", "size"])
def test_a_remote_archive_that_changes_while_it_is_read_is_for_a_later_job(
    tmp_path, server, change
):
    """Its second half is asked for by a Range; what was read before the change is kept."""
    first, other = archive_of(2_000_000), archive_of(2_000_000 + 20480 * (change == "size"))
    server.files["a.tar"] = first

    def serve(handler):
        if "Range" in handler.headers:
            server.files["a.tar"] = other
            server.etag = '"two"' if change == "tag" else server.etag
        handler.serve_file(server.files["a.tar"])

    server.raw["a.tar"] = serve
    clips = [{"clip_id": n, "source": server.url(f"a.tar::{n}.mp4")} for n in ("first", "last")]
    rows = rows_of(download(tmp_path, clips, ONCE))
    assert (rows["first"].status, rows["last"].reason) == ("ok", "network"), rows
    assert "changed while it was read" in rows["last"].detail
    rows = rows_of(download(tmp_path, clips, ONCE))
    del server.raw["a.tar"]
    server.etag = '"one"'
    assert rows["last"].status == "ok"


def archive_of(size):
    """A tar whose last member lies so far behind that what is between is skipped."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("first", "between", "last"):
            info = tarfile.TarInfo(f"{name}.mp4")
            info.size = size if name == "between" else len(BODY)
            tar.addfile(info, io.BytesIO(BODY.ljust(size, b"\1")))
    return stream.getvalue()
