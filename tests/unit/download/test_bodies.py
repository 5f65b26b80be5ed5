"""Odd and hostile answers: each is the ledger row of its clip, in bounded time and memory."""

import gzip
import time
import tracemalloc

import pytest

from pipeline_src.config.data import DownloadConfig
from pipeline_src.download.bodies import is_text, leads_home, names_recording
from pipeline_src.errors import MediaError
from pipeline_src.system.connections import Watch, reach_of
from tests.media import clips_of, download, download_one, rows_of
from tests.server import BODY, LONG_SECONDS, PAGE, answer, running_server

ONCE = DownloadConfig(max_attempts=1)
QUICKLY = DownloadConfig(timeout_seconds=1, max_attempts=1, max_transfer_seconds=0.6)
HOME = PAGE.format("<video src='/good.mp4'></video>").encode()
HTML = "text/html; charset=utf-8"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(2000)


@pytest.fixture
def server():
    with running_server() as server:
        yield server


def redirect(to):
    return answer(status="302 Found", Location=to)


ODD = {
    "bracket.mp4": redirect("http://[/x"),
    "nfkc.mp4": redirect("http://a\u2100b/x".encode().decode("latin-1")),
    "file.mp4": redirect("file:///etc/passwd"),
    "dots.mp4": redirect("http://a..b/x"),
    "port.mp4": redirect("http://127.0.0.1:99999/x"),
    "bytes.mp4": redirect("\xff\xfe/x"),
    "range.mp4": answer(b"\0a", status="206 P", Content_Range=f"bytes {'9' * 5000}-9/9"),
    "br.mp4": answer(BODY, Content_Encoding="br"),
    "encodings.mp4": answer(BODY, Content_Encoding=", ".join(["gzip"] * 50)),
    "zstd.mp4": answer(BODY, Content_Encoding="zstd"),
    "no_gzip.mp4": answer(BODY, Content_Encoding="gzip"),
    "chunk.mp4": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
    "headers.mp4": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"\r\n",
    "line.mp4": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "no_http.mp4": b"\0\0 hello",
    "wait.mp4": answer(status="503 x", Retry_After="9" * 400),
    "length.mp4": answer(BODY, Content_Length="9" * 5000),
}
# Of a list that nobody checked: a plan of an older version.
SOURCES = (
    *("http://[/x.mp4", "http://h:99999/x", "http://a..b/x", "http:///x", "http://[/a.tar::b.mp4"),
    *(
        "a" * 5000 + ".mp4",
        "a.mp4/x.tar::a",
        "a" * 5000 + ".tar::a",
        "/dev/zero",
        "a\0b",
        "a.7z::b",
    ),
)


@pytest.mark.slow
def test_an_odd_answer_or_address_is_a_row_and_the_other_clips_are_made(tmp_path, server):
    server.raw |= ODD
    (tmp_path / "a.mp4").write_bytes(b"\0")
    clips = [{"clip_id": name, "source": server.url(name)} for name in (*ODD, "good.mp4")]
    clips += [{"clip_id": source, "source": source} for source in SOURCES]
    path = download(tmp_path, clips, ONCE)
    rows = rows_of(path)
    assert {name for name, row in rows.items() if row.status == "ok"} == {"good.mp4", "length.mp4"}
    assert all(row.detail and len(row.detail) <= 1000 for row in rows.values() if row.reason)
    log = (tmp_path / "results/raw/fetched.jsonl").read_text()
    assert max(map(len, log.splitlines())) < 8000


@pytest.mark.parametrize("beginning", ["", "1\r\n\0\r\n5;", "trailer"])
def test_a_dripping_answer_ends_at_the_deadline(tmp_path, server, beginning):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    if beginning == "trailer":
        beginning = "1\r\n\0\r\n0\r\n"
    server.raw["chunk.mp4"] = lambda handler: handler.drip(chunked + beginning.encode())
    started = time.monotonic()
    row, _ = download_one(tmp_path, server.url("chunk.mp4" if beginning else "drip.mp4"), QUICKLY)
    assert (row.reason, "not done after 0.6 s" in row.detail) == ("timeout", True)
    assert time.monotonic() - started < LONG_SECONDS / 2


def test_a_body_without_length_that_the_deadline_cuts_is_not_taken_for_whole(tmp_path, server):
    server.raw["a.mp4"] = lambda handler: handler.drip(b"HTTP/1.0 200 OK\r\n\r\n" + BODY)
    row, _ = download_one(tmp_path, server.url("a.mp4"), QUICKLY)
    assert row.reason == "timeout"


def test_an_archive_that_drips_or_never_ends_ends_at_the_deadline(tmp_path, server):
    server.raw["a.tar"] = lambda handler: handler.drip(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(100))
    row, _ = download_one(tmp_path, server.url("a.tar::x.mp4"), QUICKLY)
    assert row.reason == "timeout"


@pytest.mark.slow
def test_a_body_that_grows_when_unpacked_is_bounded(tmp_path, server):
    bomb = gzip.compress(bytes(200 << 20), 6)
    server.raw["a.mp4"] = answer(bomb, Content_Encoding="gzip")
    server.raw["b.mp4"] = answer(
        bomb, status="302 F", Location="/good.mp4", Content_Encoding="gzip"
    )
    config = ONCE.model_copy(update={"max_bytes": 2_000_000})
    clips = [{"clip_id": name, "source": server.url(f"{name}.mp4")} for name in "ab"]
    tracemalloc.start()
    rows = rows_of(download(tmp_path, clips, config))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [rows[name].reason for name in "ab"] == ["unsupported", ""]
    assert peak < 50 << 20


def test_a_packed_body_is_unpacked_and_a_cut_one_is_no_whole_one(tmp_path, server):
    packed = gzip.compress(BODY)
    server.raw["a.mp4"] = answer(packed, Content_Encoding="gzip")
    server.raw["b.mp4"] = answer(packed[: len(packed) // 2], Content_Encoding="x-gzip")
    clips = [{"clip_id": name, "source": server.url(f"{name}.mp4")} for name in "ab"]
    path = download(tmp_path, clips, ONCE)
    assert clips_of(path) == {"a": BODY}
    assert rows_of(path)["b"].reason == "truncated"


@pytest.mark.slow
def test_a_dead_link_is_lost_and_not_replaced(tmp_path, server):
    """What was asked for was a recording; a page, its trailer or a picture is none."""
    answers = {
        "home": answer(HOME, HTML),
        "soft302.mp4": redirect("/home"),
        "soft200.mp4": answer(HOME, HTML),
        "lie.mp4": answer(HOME, "video/mp4"),
        "get": answer(HOME, HTML),
        "jpeg.mp4": answer(JPEG, "image/jpeg"),
        "lie_jpeg.mp4": answer(JPEG, "video/mp4"),
        "list.mp4": answer(b"#EXTM3U\n", "application/vnd.apple.mpegurl"),
        "json.mp4": answer(b'{"error": 1}', "video/mp4"),
        "nothing.mp4": answer(status="204 No Content"),
        "watch/1234": redirect("/"),
        "watch/5678": redirect("/login?next=/watch/5678"),
        "login": answer(HOME, HTML),
        "": answer(HOME, HTML),
        "watch/9": redirect("/moved/9"),
        "moved/9": answer(HOME, HTML),
    }
    server.raw |= answers
    lost = [name for name in answers if name.endswith(".mp4")]
    sources = {name: server.url(name) for name in (*lost, "watch/1234", "watch/5678", "watch/9")}
    sources["get"] = server.url("get?file=a.mp4")
    path = download(tmp_path, [{"clip_id": k, "source": v} for k, v in sources.items()], ONCE)
    rows = rows_of(path)
    reasons = {name: row.reason for name, row in rows.items()}
    unsupported = {"list.mp4", "json.mp4"}
    assert reasons == {
        name: "" if name == "watch/9" else "unsupported" if name in unsupported else "unavailable"
        for name in sources
    }
    assert all("Content-Type" in rows[name].detail for name in lost if name != "nothing.mp4")
    assert clips_of(path) == {"watch/9": BODY}  # the list names a page, and its site has moved it


@pytest.mark.slow
def test_a_mirrors_dead_link_answered_by_a_page_falls_through(tmp_path, server):
    server.raw |= {
        "m/a.mp4": redirect("/home"),
        "m/b": answer(HOME, HTML),
        "home": answer(HOME, HTML),
    }
    server.files["own.mp4"] = b"\0own"
    clip = {"source": server.url("own.mp4")}
    for mirror, name in (("m/{clip_id}.mp4", "a"), ("m/{clip_id}", "b")):
        path = download(tmp_path, [{**clip, "clip_id": name}], mirror=server.url(mirror))
        assert clips_of(path) == {name: b"\0own"}


def test_a_first_piece_of_four_bytes_is_not_judged(tmp_path, server):
    def in_pieces(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nOggS")
        handler.wfile.flush()
        time.sleep(0.2)
        handler.wfile.write(BODY)

    server.raw["a.ogg"] = in_pieces
    row, body = download_one(tmp_path, server.url("a.ogg"), ONCE)
    assert (row.status, body) == ("ok", b"OggS" + BODY)


def test_a_server_that_always_answers_206(tmp_path, server):
    size = len(BODY)

    def first_half(handler):
        start = size // 2 if f"bytes={size // 2}-" in handler.headers.get("Range", "") else 0
        part = BODY[start : start + size // 2]
        span = f"bytes {start}-{start + len(part) - 1}/{size}"
        handler.wfile.write(answer(part, status="206 P", Content_Range=span, ETag='"1"'))

    whole = f"bytes 0-{size - 1}/{size}"
    server.raw |= {
        "whole.mp4": answer(BODY, status="206 P", Content_Range=whole),
        "bare.mp4": answer(BODY, status="206 P"),
        "halves.mp4": first_half,
        "stuck.mp4": answer(
            BODY[:9], status="206 P", Content_Range=f"bytes 0-8/{size}", ETag='"1"'
        ),
    }
    names = ("whole", "bare", "halves", "stuck")
    path = download(
        tmp_path, [{"clip_id": n, "source": server.url(f"{n}.mp4")} for n in names], ONCE
    )
    assert clips_of(path) == dict.fromkeys(("whole", "bare", "halves"), BODY)
    assert rows_of(path)["stuck"].reason == "truncated"


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        *(("169.254.169.254", "forbidden"), ("fe80::1%eth0", "forbidden")),
        *(("fd00:ec2::254", "forbidden"), ("::ffff:169.254.169.254", "forbidden")),
        *(("64:ff9b::a9fe:a9fe", "forbidden"), ("2002:a9fe:a9fe::1", "forbidden")),
        *(("100.100.100.200", "forbidden"), ("224.0.0.1", "forbidden")),
        *(("127.0.0.1", "private"), ("::1", "private"), ("0.0.0.0", "private")),
        *(("10.1.2.3", "private"), ("::ffff:192.168.1.1", "private"), ("100.64.0.1", "private")),
        *(("93.184.216.34", "public"), ("2606:2800:220:1::1", "public")),
    ],
)
def test_who_can_reach_an_address(address, reach):
    assert reach_of(address) == reach


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://169.254.169.254/a.mp4",
            "http://[fd00:ec2::254]/a.mp4",
            "http://2852039166/a.mp4",
        ),
        *("http://0xa9.0xfe.0xa9.0xfe/a.mp4", "http://metadata.google.internal/a.mp4"),
        "http://169.254.1.1/a.tar::b.mp4",
    ],
)
def test_link_local_and_metadata_addresses_are_refused(tmp_path, server, url):
    server.raw["to.mp4"] = redirect(url.partition(".tar::")[0])
    for source in (url, server.url("to.mp4")):
        row, _ = download_one(tmp_path, source, ONCE)
        assert row.reason == "unsupported"
        assert "download.addresses = listed does not allow it" in row.detail


def test_private_addresses_are_for_lists_that_name_them():
    for addresses, is_allowed in (("public", False), ("listed", True), ("private", True)):
        with Watch(9, addresses) as watch:
            if is_allowed:
                watch.check_url("http://127.0.0.1/x")
            else:
                with pytest.raises(MediaError, match="private or loopback"):
                    watch.check_url("http://127.0.0.1/x")
    for addresses, is_allowed in (("listed", False), ("private", True), ("any", True)):
        with Watch(9, addresses) as watch:
            watch.check_url("http://93.184.216.34/x")
            if is_allowed:
                watch.check_link("http://10.0.0.1/x")
            else:
                with pytest.raises(MediaError, match="private or loopback"):
                    watch.check_link("http://10.0.0.1/x")
    with Watch(9, "any") as watch:
        watch.check_link("http://169.254.169.254/x")


@pytest.mark.parametrize(
    ("asked", "answered", "is_home"),
    [
        *(("watch/12", "", True), ("watch/12", "home", True), ("watch/12", "en/", True)),
        *(("watch/12", "watch/", True), ("a/b/c", "a", True), ("?v=1", "", True)),
        *(("watch/12", "index.php", True), ("watch/12", "404.html", True)),
        *(("watch/12", "error?from=12", True), ("watch/12", "?ref=gone", True)),
        *(("watch/12", "watch/12/", False), ("watch/12", "?v=12", False)),
        *(("watch/12", "w/12", False), ("?v=1", "?v=1", False), ("old", "new/old.html", False)),
        *(("x?utm=1", "x", False), ("watch/12", "video/a-title-12", False)),
    ],
)
def test_what_a_start_page_is(asked, answered, is_home):
    assert leads_home(f"http://h/{asked}", f"https://www.h/{answered}") == is_home


def test_what_names_a_recording_and_what_is_text():
    assert names_recording("http://h/a.MP4?x=1")
    assert names_recording("http://h/get?file=a.mkv&x=1#t=3")
    assert not names_recording("http://h/watch?v=abc")
    assert not names_recording("http://h/clip.html")
    assert is_text("Gr\u00fc\u00dfe\n".encode("latin-1"))
    assert is_text("\ufeffHallo".encode("utf-16-le"))
    assert not is_text(b"OggS\0\2")
    assert not is_text(b"NIST_1A\n   1024\n" + b" " * 1008 + bytes(range(256)))
