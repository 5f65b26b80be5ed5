"""Where a clip comes from, by the form of its ``source``, and how each form is fetched.

Local files stay where they are. Archive members and http(s) bodies are written under the chunk's
raw folder, each whole or absent. Names inside archives and URLs never become paths here.
"""

import hashlib
import itertools
import logging
import re
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import IO, Literal, NamedTuple
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import IncompleteRead, ReadTimeoutError

from pipeline_src.config.data import DownloadConfig
from pipeline_src.errors import MediaError, StageError, describe_disk_full, is_disk_full
from pipeline_src.ledger import TRANSIENT_REASONS

LOGGER = logging.getLogger(__name__)
BLOCK_BYTES = 1 << 18
FIRST_BACKOFF_SECONDS = 0.5
MEMBER_SEPARATOR = ".tar::"
URL_PATTERN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
EXTENSION_PATTERN = re.compile(r"\.[A-Za-z0-9]{1,5}")
REASON_OF_STATUS = {
    401: "private",
    403: "private",
    404: "unavailable",
    408: "timeout",
    410: "unavailable",
    429: "rate_limited",
    451: "geo_blocked",
    504: "timeout",
}

Kind = Literal["local", "member", "http", "unsupported"]


class Fetched(NamedTuple):
    """A raw clip on disk."""

    path: Path
    bytes: int
    sha256: str
    attempts: int = 1


class Lost(NamedTuple):
    """A clip that could not be had: a reason of the ledger's closed list, and what was seen."""

    reason: str
    detail: str
    attempts: int = 1


Outcome = Fetched | Lost


def source_kind(source: str) -> Kind:
    """Tell how ``source`` is fetched."""
    if source.startswith("youtube:"):
        return "unsupported"
    if match := URL_PATTERN.match(source):
        return "http" if match[1].lower() in ("http", "https") else "unsupported"
    return "member" if MEMBER_SEPARATOR in source else "local"


def split_member(source: str) -> tuple[str, str]:
    """``a.tar::b/c.mp4`` -> (``a.tar``, ``b/c.mp4``)."""
    archive, _, member = source.partition(MEMBER_SEPARATOR)
    return archive + ".tar", member


def raw_extension(source: str) -> str:
    """The extension of a source as a safe suffix; ``.bin`` where it has none."""
    name = urlsplit(source).path if source_kind(source) == "http" else source
    suffix = PurePosixPath(name).suffix
    return suffix.lower() if EXTENSION_PATTERN.fullmatch(suffix) else ".bin"


def fetch_local(path: Path, max_bytes: int) -> Outcome:
    """Check a local file and take its hash; it is used where it lies."""
    try:
        if not path.is_file():
            return Lost("unavailable", f"{path} is not a file")
        size = path.stat().st_size
        _check_size(size, max_bytes)
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
    except MediaError as error:
        return Lost(error.reason, f"{path}: {error.detail}")
    except OSError as error:
        return Lost("unavailable", f"{path}: {error.strerror}")
    return Fetched(path, size, digest.hexdigest())


def fetch_members(
    archive: Path, targets: Mapping[str, Path], max_bytes: int
) -> Iterator[tuple[str, Outcome]]:
    """Extract the wanted members in one pass over the archive, in archive order.

    Args:
        targets: member name -> file to write.
    Yields:
        Member name with the file or the reason; every wanted member once. Only regular members
        count: no link is followed, no device or folder made.
    """
    missing = dict(targets)
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if member.name in missing and member.isreg():
                    yield member.name, _extract(tar, member, missing.pop(member.name), max_bytes)
                if not missing:
                    return
        reason, detail = "unavailable", f"no such regular member in {archive}"
    except FileNotFoundError:
        reason, detail = "unavailable", f"{archive} is not a file"
    except (tarfile.TarError, OSError) as error:
        reason, detail = "corrupt", f"{archive}: {error}"
    for name in missing:
        yield name, Lost(reason, detail)


def _extract(
    tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, max_bytes: int
) -> Outcome:
    stream = tar.extractfile(member)
    assert stream is not None  # isreg() was checked
    try:
        _check_size(member.size, max_bytes)
        return _store(_blocks(stream), target, max_bytes)
    except tarfile.ReadError as error:
        return Lost("corrupt", f"{member.name}: {error}")
    except MediaError as error:
        return Lost(error.reason, f"{member.name}: {error.detail}")


def fetch_http(
    session: requests.Session, url: str, target: Path, config: DownloadConfig
) -> Outcome:
    """Fetch one body, trying again after transient errors with doubled waits."""
    for attempt in itertools.count(1):
        try:
            return _fetch_http_once(session, url, target, config)._replace(attempts=attempt)
        except MediaError as error:
            if error.reason not in TRANSIENT_REASONS or attempt == config.max_attempts:
                return Lost(error.reason, error.detail, attempt)
            wait_seconds = FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1)
            LOGGER.info("%s; attempt %d in %.1f s", error, attempt + 1, wait_seconds)
            time.sleep(wait_seconds)
    raise AssertionError("unreachable")


def _fetch_http_once(
    session: requests.Session, url: str, target: Path, config: DownloadConfig
) -> Fetched:
    headers = {"Accept-Encoding": "identity"}
    try:
        with session.get(
            url, stream=True, timeout=config.timeout_seconds, headers=headers
        ) as reply:
            _check_status(reply)
            expected = reply.headers.get("Content-Length", "")
            if expected.isdecimal():
                _check_size(int(expected), config.max_bytes)
            fetched = _store(reply.iter_content(BLOCK_BYTES), target, config.max_bytes)
    except requests.RequestException as error:
        raise MediaError(_reason_of(error), f"{url}: {error}") from error
    return fetched


def _check_status(reply: requests.Response) -> None:
    if reply.status_code == HTTPStatus.OK:
        return
    is_server_error = reply.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    fallback = "network" if is_server_error else "unavailable"
    reason = REASON_OF_STATUS.get(reply.status_code, fallback)
    raise MediaError(reason, f"{reply.url}: HTTP {reply.status_code} {reply.reason}")


def _reason_of(error: requests.RequestException) -> str:
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


def _check_size(size: int, max_bytes: int) -> None:
    if size == 0:
        raise MediaError("corrupt", "0 bytes")
    if size > max_bytes:
        raise MediaError("unsupported", f"{size} bytes; download.max_bytes is {max_bytes}")


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(BLOCK_BYTES):
        yield block


def _store(blocks: Iterator[bytes], target: Path, max_bytes: int) -> Fetched:
    """Write ``target`` whole or not at all.

    Not synced one by one (thousands of small files): a file that a power cut tore is found by its
    size and hash, and fetched again.
    """
    digest = hashlib.sha256()
    size = 0
    temporary = target.with_name(f".{target.name}.part")
    try:
        with stage_error_when_full(target.parent), temporary.open("wb") as stream:
            for block in blocks:
                size += len(block)
                if size > max_bytes:
                    _check_size(size, max_bytes)
                digest.update(block)
                stream.write(block)
        _check_size(size, max_bytes)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return Fetched(target, size, digest.hexdigest())


@contextmanager
def stage_error_when_full(folder: Path) -> Iterator[None]:
    """Turn "no space left" into an error of the stage: no other clip will fit either."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StageError(describe_disk_full(error, folder)) from error
        raise
