"""One http(s) body: continued where it broke off, and checked to be what was asked for."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, IncompleteRead, ReadTimeoutError

from pipeline_src.config.data import DownloadConfig
from pipeline_src.download.secrets import Secrets
from pipeline_src.download.sources import Fetched
from pipeline_src.download.statuses import status_error
from pipeline_src.download.store import BLOCK_BYTES, Part, check_size
from pipeline_src.errors import MediaError

RANGE_STATUSES = (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
# Declared so, and without a zero byte at its beginning, a body is a page and no recording.
NO_MEDIA_TYPE = re.compile(r"(text/|image/|application/(json|xml|xhtml|javascript))", re.I)


class PageError(MediaError):
    """The answer is a web page."""


def open_session(num_connections: int, secrets: Secrets) -> requests.Session:
    """A session with the user's cookies and proxy."""
    session = requests.Session()
    adapter = HTTPAdapter(pool_maxsize=num_connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    if secrets.proxy:
        session.proxies = {"http": secrets.proxy, "https": secrets.proxy}
        session.trust_env = False  # the environment's own proxy would win
    for cookie in secrets.cookies:
        session.cookies.set_cookie(cookie)
    return session


def fetch_http(
    session: requests.Session, url: str, target: Path, config: DownloadConfig
) -> Fetched:
    """Fetch a body into ``target``'s part, from where an earlier attempt got to.

    Raises:
        PageError: a web page answered. SlowDownError: 429, or 503 with Retry-After.
        MediaError: everything else, with the reason.
    """
    part = Part(target, url)
    headers = {}
    if part.size:
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    with part.resumable(), open_reply(session, url, headers, config.timeout_seconds) as reply:
        if reply.status_code == HTTPStatus.OK:
            part.start_over(validator_of(reply))
        elif range_start(reply) != part.size:
            part.discard()
            raise MediaError("network", f"{url}: has no such range; from the start next time")
        declared = reply.headers.get("Content-Length", "")
        if declared.isdecimal():
            check_size(part.size + int(declared), config.max_bytes)
        blocks = _checked_blocks(reply, url, is_start=part.size == 0)
        limits = {"max_bytes": config.max_bytes, "max_seconds": config.max_transfer_seconds}
        fetched = part.extend(blocks, **limits)
    part.finish()
    return fetched


@contextmanager
def open_reply(
    session: requests.Session, url: str, headers: dict[str, str], timeout_seconds: float
) -> Iterator[requests.Response]:
    """Ask for ``url`` and yield a reply that is 200 or, to a Range, 206 or 416.

    Raises:
        MediaError: another status, or what breaks while the reply is read.
    """
    asked = {"Accept-Encoding": "identity", **headers}
    with (
        media_errors(url),
        session.get(url, stream=True, timeout=timeout_seconds, headers=asked) as reply,
    ):
        _check_status(reply, is_range="Range" in headers)
        yield reply


@contextmanager
def media_errors(url: str) -> Iterator[None]:
    """Turn what a broken connection raises into a MediaError with its reason."""
    try:
        yield
    except (requests.RequestException, HTTPError) as error:
        raise MediaError(_reason_of(error), f"{url}: {error}") from error


def read_reply(reply: requests.Response, size: int = BLOCK_BYTES) -> bytes:
    """Whatever has arrived, up to ``size`` bytes; nothing at the end.

    Waiting for a full block would lose what came before a reset.
    """
    return reply.raw.read1(size, decode_content=True)


def _checked_blocks(reply: requests.Response, url: str, *, is_start: bool) -> Iterator[bytes]:
    declared = reply.headers.get("Content-Type", "")
    while block := read_reply(reply):
        if is_start and NO_MEDIA_TYPE.match(declared) and b"\0" not in block:
            kind = PageError if "html" in declared.lower() else MediaError
            raise kind("unsupported", f"{url}: Content-Type {declared} is no recording")
        is_start = False
        yield block


def validator_of(reply: requests.Response) -> str:
    """What names this very body in If-Range (RFC 9110, 13.1.5); empty = it cannot be resumed."""
    headers = reply.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        return ""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def range_start(reply: requests.Response) -> int:
    """Where a partial answer begins; -1 for any other answer."""
    match = CONTENT_RANGE.match(reply.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _check_status(reply: requests.Response, *, is_range: bool) -> None:
    status = reply.status_code
    if status == HTTPStatus.OK or (is_range and status in RANGE_STATUSES):
        return
    detail = f"{reply.url}: HTTP {status} {reply.reason}"
    raise status_error(status, detail, reply.headers.get("Retry-After", ""))


def _reason_of(error: requests.RequestException | HTTPError) -> str:
    """Map what requests raises to the ledger's reasons; the cause is often wrapped twice."""
    causes: list[BaseException] = [error]
    for cause in causes:
        causes += [
            arg for arg in cause.args if isinstance(arg, BaseException) and arg not in causes
        ]
    if any(isinstance(c, requests.Timeout | ReadTimeoutError | TimeoutError) for c in causes):
        return "timeout"
    if any(isinstance(cause, IncompleteRead) for cause in causes):
        return "truncated"
    if isinstance(error, requests.exceptions.InvalidURL | requests.TooManyRedirects):
        return "unavailable"
    return "network"
