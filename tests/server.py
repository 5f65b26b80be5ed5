"""A real HTTP server on loopback that misbehaves on demand, by the path that is asked for."""

import re
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BODY = b"\0video" * 50_000
PAGE = "<html><head><title>clip</title></head><body>{}</body></html>"
# How long an answer hangs or drips: on a busy machine too, a client that gives up does so before.
LONG_SECONDS = 60


def answer(
    body: bytes = b"", kind: str = "video/mp4", status: str = "200 OK", **headers: str
) -> bytes:
    """A whole answer for ``Server.raw``; a header may replace the usual ones."""
    fields = {"Content-Length": str(len(body)), "Content-Type": kind, "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Server(ThreadingHTTPServer):
    """Counts the requests of each name; the name says how they are answered.

    ``404``: that status. ``good``: a body. ``cut``, ``hang``, ``reset``, ``endless``, ``empty``,
    ``huge``, ``trickle``, ``text``: what the word says. ``see-<word>``: a page with that video.
    ``flaky``: 503 the first time. ``limit``: 429 while ``is_ill``. ``ill``: 503 while ``is_ill``.
    ``human``: a page in TeacherTube's form that has a video, or asks for a human while ``is_ill``.
    ``heals_after``: so many of these answers end ``is_ill``; 0 = none does.
    ``torn``: half the body, then a reset, but a Range is served. ``slow``: after ``slow_seconds``.
    ``files``: name -> body, with Range and ETag, or without where ``serves_ranges`` is false;
    ``fail_every``: each so many-th request of one ends in a 503 or in half a body, by turns.
    ``body`` is that of ``good``. ``drip``: an endless header, a byte at a time.
    ``raw``: name -> the whole answer, headers included, or a call that writes it.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: Counter[str] = Counter()
        self.paths: list[str] = []
        self.times: list[float] = []
        self.ranges: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.serves_ranges = True
        self.fail_every = 0
        self.body = BODY
        self.raw: dict[str, bytes | Callable[[Handler], None]] = {}
        self.etag = '"one"'
        self.is_ill = True
        self.heals_after = 0
        self.slow_seconds = 0.2
        self.num_running = self.most_running = 0
        self.lock = threading.Lock()

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    name = ""

    def log_message(self, format, *args) -> None:
        """Stay quiet."""

    def reply(
        self, status: int, body: bytes = b"", length: int | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.wfile.flush()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.name = urlsplit(self.path).path.strip("/")  # a proxy is asked for whole URLs
        with self.server.lock:
            self.server.requests[self.name] += 1
            self.server.paths.append(self.path)
            self.server.times.append(time.monotonic())
            self.server.headers.append(dict(self.headers))
            self.server.num_running += 1
            self.server.most_running = max(self.server.most_running, self.server.num_running)
        try:
            word = re.split(r"[.-]", self.name.rpartition("/")[2])[0]
            if raw := self.server.raw.get(self.name):
                self.close_connection = True
                raw(self) if callable(raw) else self.wfile.write(raw)
            elif self.name in self.server.files:
                self.serve_or_fail(self.server.files[self.name])
            elif word.isdecimal():
                self.reply(int(word))
            else:
                answer: Callable[[], None] = getattr(self, f"answer_{word}", self.answer_good)
                answer()
        finally:
            with self.server.lock:
                self.server.num_running -= 1

    def answer_good(self) -> None:
        self.reply(200, self.server.body, Content_Type="video/mp4")

    def answer_cut(self) -> None:
        self.reply(200, BODY[:1000], len(BODY))

    def answer_hang(self) -> None:
        self.reply(200, BODY[:1000], len(BODY))
        time.sleep(LONG_SECONDS)

    def answer_reset(self) -> None:
        self.reply(200, BODY[:1000], len(BODY))
        self.hang_up()

    def answer_flaky(self) -> None:
        if self.server.requests[self.name] == 1:
            self.reply(503)
        else:
            self.answer_good()

    def is_ill(self) -> bool:
        """Whether an answer that depends on it is an ill one."""
        with self.server.lock:
            was_ill = self.server.is_ill
            self.server.heals_after -= was_ill
            self.server.is_ill = was_ill and self.server.heals_after != 0
            return was_ill

    def answer_limit(self) -> None:
        if self.is_ill():
            self.reply(429, Retry_After="1")
        else:
            self.answer_good()

    def answer_ill(self) -> None:
        if self.is_ill():
            self.reply(503)
        else:
            self.answer_good()

    def answer_empty(self) -> None:
        self.reply(200)

    def answer_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(BODY)

    def answer_trickle(self) -> None:
        self.reply(200, b"", len(BODY))
        for _ in range(10 * LONG_SECONDS):
            self.wfile.write(b"\0")
            time.sleep(0.1)

    def answer_drip(self) -> None:
        self.drip(b"HTTP/1.1 200 OK\r\nX: ")

    def drip(self, beginning: bytes) -> None:
        """Write ``beginning``, then a byte every tenth of a second."""
        self.close_connection = True
        self.wfile.write(beginning)
        for _ in range(10 * LONG_SECONDS):
            self.wfile.write(b"a")
            time.sleep(0.1)

    def answer_huge(self) -> None:
        self.reply(200, BODY, 10 << 30, Content_Type="video/mp4")

    def answer_see(self) -> None:
        video = f"<video src='/{self.name.removeprefix('see-')}.mp4'></video>"
        self.reply(200, PAGE.format(video).encode(), Content_Type="text/html; charset=utf-8")

    def answer_human(self) -> None:
        text = "<meta name='title' content='clip'><p data-contenturl=\"http://x.invalid/good.mp4\"></p>"
        if self.is_ill():
            text = "<div id='a' class='msgBox error red'>Confirm that you are not a bot</div>"
        self.reply(200, PAGE.format(text).encode(), Content_Type="text/html; charset=utf-8")

    def answer_text(self) -> None:
        self.reply(200, PAGE.encode(), Content_Type="text/html; charset=utf-8")

    def answer_json(self) -> None:
        self.reply(200, b'{"error": "gone"}', Content_Type="application/json")

    def answer_mistyped(self) -> None:
        self.reply(200, BODY, Content_Type="text/plain")

    def answer_slow(self) -> None:
        time.sleep(self.server.slow_seconds)
        self.answer_good()

    def answer_half(self) -> None:
        """The first 200 bytes of a tar header of a longer body."""
        header = b"a.mp4".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
        self.reply(200, header, len(BODY))

    def answer_torn(self) -> None:
        if "Range" in self.headers:
            self.serve_file(BODY)
        else:
            self.reply(200, BODY[: len(BODY) // 2], len(BODY), ETag=self.server.etag)
            self.hang_up()

    def serve_or_fail(self, body: bytes) -> None:
        """Serve a body of ``files``, or fail as ``fail_every`` says."""
        number, every = sum(self.server.requests.values()), self.server.fail_every
        if every and number % every == 0:
            if number % (2 * every):
                self.reply(503)
            else:
                self.reply(200, body[: len(body) // 2], len(body))
                self.hang_up()
        else:
            self.serve_file(body)

    def serve_file(self, body: bytes) -> None:
        """Serve a range of ``body`` if it is asked for under the current ETag."""
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not self.server.serves_ranges:
            asked = None
        if asked:
            self.server.ranges.append((self.name, asked[0]))
        if not asked or self.headers.get("If-Range", self.server.etag) != self.server.etag:
            self.reply(200, body, ETag=self.server.etag)
            return
        first, end = int(asked[1]), len(body)
        if first >= end:
            self.reply(416, Content_Range=f"bytes */{end}")
            return
        last = min(int(asked[2] or end), end - 1)
        span = f"bytes {first}-{last}/{end}"
        self.reply(206, body[first : last + 1], ETag=self.server.etag, Content_Range=span)

    def hang_up(self) -> None:
        """Close the connection with a reset; what was sent has arrived."""
        time.sleep(0.1)
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


@contextmanager
def running_server() -> Iterator[Server]:
    """Serve on a free port until the block ends."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def wait_for_port(port: int, server: subprocess.Popen) -> None:
    """Return when a server that was just started listens on loopback."""
    for _ in range(300):
        assert server.poll() is None, "the server ended"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server does not listen")
