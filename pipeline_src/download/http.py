"""One http(s) body: continued where it broke off, and checked to be what was asked for."""

import functools
import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, IncompleteRead, LocationParseError, ReadTimeoutError

from pipeline_src.config.data import DownloadConfig
from pipeline_src.download.bodies import HEAD_BYTES, PAGE, PageError, check_head, leads_home
from pipeline_src.download.content_encoding import split_codings, unpack
from pipeline_src.download.secrets import Secrets
from pipeline_src.download.sources import Fetched
from pipeline_src.download.statuses import status_error
from pipeline_src.download.store import BLOCK_BYTES, BodyVersion, Part, check_size
from pipeline_src.errors import MediaError
from pipeline_src.system.connections import Watch, watch_session

RANGE_STATUSES = (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
LENGTH = re.compile(r"[0-9]{1,18}")
CONNECTION = re.compile(r"^\w+\(host=[^)]*\): ")
# An address that no request can be sent to; asking again does not help.
NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.TooManyRedirects,
    LocationParseError,
    UnicodeError,
)


def open_session(num_connections: int, secrets: Secrets) -> requests.Session:
    """Open a session with the user's cookies and proxy."""
    session = requests.Session()
    adapter = HTTPAdapter(pool_maxsize=num_connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    if secrets.proxy:
        session.proxies = {"http": secrets.proxy, "https": secrets.proxy}
        session.trust_env = False  # the environment's own proxy would win
    for cookie in secrets.cookies:
        session.cookies.set_cookie(cookie)
    return watch_session(session)


def fetch_http(
    session: requests.Session,
    url: str,
    target: Path,
    config: DownloadConfig,
    *,
    is_media: bool = True,
) -> Fetched:
    """Fetch a body into ``target``'s part, from where an earlier attempt got to.

    Args:
        is_media: a body that can be no recording is refused; else a web page alone is.
    Raises:
        PageError: a web page answered. RateLimitedError: 429, or 503 with Retry-After.
        MediaError: everything else, with the reason.
    """
    part = Part(target, url)
    with Watch(config.max_transfer_seconds, config.addresses) as watch, part.resumable():
        while True:
            before = part.size
            fetched, total = _fetch_piece(session, url, part, config, watch, is_media)
            if fetched.bytes >= total:
                break
            if not part.version.validator or fetched.bytes <= before:
                raise MediaError("truncated", f"{url}: {fetched.bytes} of {total} bytes")
    part.finish()
    return fetched


def _fetch_piece(
    session: requests.Session,
    url: str,
    part: Part,
    config: DownloadConfig,
    watch: Watch,
    is_media: bool,
) -> tuple[Fetched, int]:
    """Add one answer to ``part``; return it, and how many bytes the whole has, or 0.

    An answer that does not continue ``part`` ends it: the body is asked for from its start.

    Raises:
        MediaError: the answer is too large, or breaks off.
    """
    headers = {}
    if part.size:
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.version.validator}
    with open_reply(session, url, headers, config, watch) as reply:
        start, total = range_of(reply)
        version = version_of(reply)
        is_start = reply.status_code == HTTPStatus.OK or start == 0
        if is_start:
            part.start_over(version)
        if is_start or (start == part.size and part.version.goes_on_in(version)):
            if length := _declared_length(reply):
                check_size(part.size + length, config.max_bytes)
            blocks = _checked_blocks(reply, url, watch, is_start=is_start, is_media=is_media)
            limits = {"max_bytes": config.max_bytes, "max_seconds": config.max_transfer_seconds}
            return part.extend(blocks, **limits), total
        part.discard()
    return _fetch_piece(session, url, part, config, watch, is_media)


@contextmanager
def open_reply(
    session: requests.Session,
    url: str,
    headers: dict[str, str],
    config: DownloadConfig,
    watch: Watch,
) -> Iterator[requests.Response]:
    """Ask for ``url`` and yield a reply that is 200 or 206 or, to a Range, 416.

    Raises:
        MediaError: another status, what breaks while the reply is read, or the watch's end.
    """
    asked = {"Accept-Encoding": "identity", **headers}
    watch.check_url(url)
    try:
        with media_errors(url), watch.here():
            reply = session.get(url, stream=True, timeout=config.timeout_seconds, headers=asked)
        with media_errors(url), reply:
            _check_status(reply, is_range="Range" in headers)
            yield reply
    except MediaError:
        watch.check_time(url)
        raise
    watch.check_time(url)


@contextmanager
def media_errors(url: str) -> Iterator[None]:
    """Turn what a broken connection or answer raises into an error of the clip.

    Raises:
        MediaError: with the reason.
    """
    try:
        yield
    except (requests.RequestException, HTTPError, http.client.HTTPException, ValueError) as error:
        raise MediaError(_reason_of(error), f"{url}: {_cause_of(error)}") from error


def read_reply(reply: requests.Response, size: int = BLOCK_BYTES) -> bytes:
    """Read what has arrived, up to ``size`` bytes; nothing at the end.

    Waiting for a full block would lose what came before a reset.
    """
    return reply.raw.read1(size, decode_content=False)


def _checked_blocks(
    reply: requests.Response, url: str, watch: Watch, *, is_start: bool, is_media: bool
) -> Iterator[bytes]:
    packed = iter(functools.partial(read_reply, reply), b"")
    codings = split_codings(reply.headers.get("Content-Encoding", ""))
    blocks = unpack(packed, codings, url, functools.partial(watch.check_time, url))
    if is_start:
        head = b""
        while len(head) < HEAD_BYTES and (block := next(blocks, b"")):
            head += block
        try:
            if is_media:
                check_head(head, reply.headers.get("Content-Type", ""), url)
            elif PAGE.search(head):
                raise PageError("unavailable", f"{url}: a web page, not the file")
        except PageError as error:
            if leads_home(url, reply.url):
                detail = f"{error.detail}; redirected to {reply.url}"
                raise MediaError("unavailable", detail) from error
            raise
        yield head
    yield from blocks


def _declared_length(reply: requests.Response) -> int:
    text = reply.headers.get("Content-Length", "")
    return int(text) if LENGTH.fullmatch(text) else 0


def version_of(reply: requests.Response) -> BodyVersion:
    """Return what the answer says of the body that it is, or is a part of."""
    headers = reply.headers
    is_whole = reply.status_code == HTTPStatus.OK
    size = _declared_length(reply) if is_whole else range_of(reply)[1]
    coding = ", ".join(split_codings(headers.get("Content-Encoding", "")))
    return BodyVersion(headers.get("ETag", ""), headers.get("Last-Modified", ""), size, coding)


def range_of(reply: requests.Response) -> tuple[int, int]:
    """Return where a partial answer begins (-1 for any other) and the bytes of the whole, or 0."""
    text = reply.headers.get("Content-Range", "")
    if reply.status_code != HTTPStatus.PARTIAL_CONTENT:
        return -1, 0
    if not text and "Range" not in reply.request.headers:
        return 0, 0  # nothing was cut out of what was asked for whole
    match = CONTENT_RANGE.fullmatch(text)
    if match is None:
        return -1, 0
    return int(match[1]), int(match[2]) if match[2] != "*" else 0


def _check_status(reply: requests.Response, *, is_range: bool) -> None:
    status = reply.status_code
    is_whole = status == HTTPStatus.OK or range_of(reply)[0] == 0  # some always answer 206
    if is_whole or (is_range and status in RANGE_STATUSES):
        return
    detail = f"{reply.url}: HTTP {status} {reply.reason}"
    raise status_error(status, detail, reply.headers.get("Retry-After", ""))


def _cause_of(error: Exception) -> str:
    """Return what happened, without the objects of urllib3 that its message begins with."""
    wrapped = error.args[0] if error.args else None
    return CONNECTION.sub("", str(getattr(wrapped, "reason", None) or error))


def _reason_of(error: Exception) -> str:
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
    return "unavailable" if isinstance(error, NO_ADDRESS) else "network"
