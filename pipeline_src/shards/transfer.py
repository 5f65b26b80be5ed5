"""Read bytes from URLs: http(s) by requests, what else fsspec knows (s3, gs, ...) by fsspec.

fsspec's own http reads a whole body into memory where a server ignores Range, hence requests there.
Proxies and passwords come from the environment and ~/.netrc, keys of s3 from where its tools look.
"""

import http.client
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import fsspec
import requests
from urllib3.exceptions import HTTPError

from pipeline_src.config.data import RemoteConfig
from pipeline_src.errors import ManifestError, is_disk_full
from pipeline_src.system.connections import Watch, watch_session

logger = logging.getLogger(__name__)
BLOCK_BYTES = 1 << 20
MAX_INDEX_BYTES = 1 << 28  # of an index or a manifest: what is read as a whole
FINAL_STATUSES = {400, 401, 403, 404, 405, 410}
HTTP = ("http://", "https://")
T = TypeVar("T")


class NoRangeError(Exception):
    """The server sends whole files only."""


class Transfer:
    """Reads for the threads of one process.

    Args:
        config: attempts, waits and time-outs.
    """

    def __init__(self, config: RemoteConfig) -> None:
        self._config = config
        self._local = threading.local()

    def attempt(self, url: str, read: Callable[[], T]) -> T:
        """Call ``read`` until it succeeds, with growing waits.

        Raises:
            ManifestError: nothing there, not allowed, or every attempt failed.
            OSError: the disk that it is kept on is full.
        """
        config = self._config
        for number in range(1, config.max_attempts + 1):
            try:
                return read()
            except (NoRangeError, ManifestError):
                raise
            except (FileNotFoundError, PermissionError) as error:
                raise ManifestError(
                    f"{url}: {type(error).__name__}: {error}; check the address and your access"
                ) from error
            except Exception as error:  # fsspec's backends raise what they like
                if is_disk_full(error):  # of this machine: no other attempt helps
                    raise
                if number == config.max_attempts:
                    raise ManifestError(
                        f"{url}: not read after {number} attempts: {error!r}; "
                        "check the network and run again, or raise remote.max_attempts"
                    ) from error
                logger.info("%s: attempt %d: %s", url, number, error)
                time.sleep(config.backoff_seconds * 2 ** (number - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("max_attempts is at least 1")

    def whole(self, url: str) -> bytes:
        """Read a small file, in one attempt.

        Raises:
            ManifestError: it is larger than any index is.
        """
        if not url.startswith(HTTP):
            content = self._filesystem(url).cat_file(url, start=0, end=MAX_INDEX_BYTES + 1)
        else:
            with self._ask(url, {}) as (reply, watch):
                content = b"".join(_blocks(reply, watch, MAX_INDEX_BYTES + 1))
        if len(content) > MAX_INDEX_BYTES:
            raise ManifestError(f"{url}: larger than {MAX_INDEX_BYTES} bytes: no index or manifest")
        return content

    def span(self, url: str, first: int, size: int, total: int) -> bytes:
        """Read ``size`` bytes from ``first``, in one attempt.

        Args:
            total: bytes that the file must have, where the server says how many it has.
        Raises:
            NoRangeError: nothing has been read. ManifestError: the file has another size.
        """
        if not url.startswith(HTTP):
            return self._filesystem(url).cat_file(url, start=first, end=first + size)
        wanted = f"bytes={first}-{first + size - 1}"
        headers = {"Range": wanted, "Accept-Encoding": "identity"}
        with self._ask(url, headers) as (reply, watch):
            if reply.status_code != HTTPStatus.PARTIAL_CONTENT:
                raise NoRangeError
            found = reply.headers.get("Content-Range", "").rpartition("/")[2]
            if found.isdecimal() and int(found) != total:
                raise ManifestError(
                    f"{url}: has {found} bytes, its index says {total}: it was packed again; "
                    "fetch the index again (snakemake --forcerun fetch_index)"
                )
            return b"".join(_blocks(reply, watch, size))

    def stream(self, url: str, total: int) -> Iterator[bytes]:
        """Yield the blocks of a whole http(s) file, in one attempt, at most one byte too many.

        Args:
            total: bytes that it must have.
        """
        with self._ask(url, {"Accept-Encoding": "identity"}) as (reply, watch):
            yield from _blocks(reply, watch, total + 1)

    @contextmanager
    def _ask(self, url: str, headers: dict[str, str]) -> Iterator[tuple[requests.Response, Watch]]:
        """Send a request; yield the answer and what closes it, headers included, after its time.

        Raises:
            ManifestError: nothing there, or not allowed. TimeoutError: it took too long.
        """
        seconds, timeout = self._config.max_transfer_seconds, self._config.timeout_seconds
        with Watch(seconds, "any") as watch:
            try:
                with watch.here():
                    reply = self._session().get(url, headers=headers, stream=True, timeout=timeout)
                with reply:
                    _check_time(watch)  # headers that were cut off look whole
                    _check_status(reply, url)
                    yield reply, watch
            except (requests.RequestException, HTTPError, http.client.HTTPException, OSError):
                _check_time(watch)
                raise
            _check_time(watch)  # a body without length, too

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = watch_session(requests.Session())
        return self._local.session

    def _filesystem(self, url: str) -> Any:
        return fsspec.core.url_to_fs(url)[0]


def _blocks(reply: requests.Response, watch: Watch, limit: int) -> Iterator[bytes]:
    """Yield a body as it arrives, up to ``limit`` bytes.

    Raises:
        TimeoutError: it took longer than an attempt may.
    """
    while limit > 0 and (block := reply.raw.read1(min(BLOCK_BYTES, limit), decode_content=True)):
        _check_time(watch)
        block = block[:limit]  # what is unpacked may be more than was asked for
        limit -= len(block)
        yield block


def _check_time(watch: Watch) -> None:
    if watch.is_over:
        raise TimeoutError(f"longer than remote.max_transfer_seconds={watch.seconds:g}")


def _check_status(reply: requests.Response, url: str) -> None:
    if reply.status_code in FINAL_STATUSES:
        raise ManifestError(
            f"{url}: the server says {reply.status_code} {reply.reason}; check the address and "
            "your access"
        )
    reply.raise_for_status()
