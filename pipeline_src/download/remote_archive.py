"""A remote archive as a file that tarfile can walk: read in order, skipped over by Range requests.

Nothing but the wanted members is stored. A connection that breaks is opened again where it broke,
and an archive that changed meanwhile is an error.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, cast

import requests

from pipeline_src.config.data import DownloadConfig
from pipeline_src.download.archives import fetch_members
from pipeline_src.download.bodies import HEAD_BYTES, check_head
from pipeline_src.download.http import media_errors, open_reply, range_of, read_reply, version_of
from pipeline_src.download.retry_policy import RetriesExhaustedError, RetryPolicy
from pipeline_src.download.sources import FetchFailure, Outcome, host_of
from pipeline_src.download.store import BLOCK_BYTES, BodyVersion
from pipeline_src.errors import MediaError
from pipeline_src.system.connections import Watch

# A shorter gap is read over: cheaper than another request.
MAX_READ_OVER_BYTES = 4 * BLOCK_BYTES
# No archive is so large: ends reading from a server that sends without end.
MAX_ARCHIVE_BYTES = 1 << 42


class RemoteArchive(io.RawIOBase):
    """A seekable view of one URL; every failure is a MediaError once the retries are exhausted."""

    def __init__(
        self, session: requests.Session, url: str, config: DownloadConfig, retries: RetryPolicy
    ) -> None:
        self._session = session
        self._url = url
        self._config = config
        self._retries = retries
        self._position = 0
        self._num_read = 0
        self._version: BodyVersion | None = None
        self._reply: requests.Response | None = None
        self._reply_position = 0
        self._watch: Watch | None = None
        self._open_reply = ExitStack()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move the position; no request is sent before the next read.

        Raises:
            io.UnsupportedOperation: from the end, which is not known.
        """
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a remote archive is not known")
        self._position = offset + (self._position if whence == io.SEEK_CUR else 0)
        return self._position

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Read up to ``len(buffer)`` bytes; 0 at the end."""
        block = self._read(len(buffer))
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)

    def close(self) -> None:
        """Close the connection."""
        self._hang_up()
        super().close()

    def _read(self, size: int) -> bytes:
        failures = 0
        while True:
            try:
                reply = self._at_position()
                with media_errors(self._url):
                    block = read_reply(reply, size)
                if not block and self._watch:
                    self._watch.check_time(self._url)  # the end of its time looks like an end
                self._count(block)
                return block
            except MediaError as error:
                self._hang_up()
                failures += 1
                if not self._retries.should_retry(error, failures):
                    raise

    def _at_position(self) -> requests.Response:
        gap = self._position - self._reply_position
        if self._reply is None or not 0 <= gap <= MAX_READ_OVER_BYTES:
            self._hang_up()
            tried = self._retries.call(host_of(self._url), self._connect)
            if tried.error:
                raise RetriesExhaustedError(tried.error.reason, tried.error.detail)
            self._reply = tried.value
        assert self._reply is not None
        with media_errors(self._url):
            while gap := self._position - self._reply_position:
                block = read_reply(self._reply, min(gap, BLOCK_BYTES))
                if not block:
                    break
                self._count(block)
        return self._reply

    def _count(self, block: bytes) -> None:
        self._reply_position += len(block)
        self._num_read += len(block)
        if self._num_read > MAX_ARCHIVE_BYTES:
            raise RetriesExhaustedError("unsupported", f"{self._num_read} bytes and no end")

    def _connect(self) -> requests.Response:
        headers = {}
        if self._position:
            headers["Range"] = f"bytes={self._position}-"
        watch = Watch(self._config.max_transfer_seconds, self._config.addresses)
        with ExitStack() as opening:
            opening.enter_context(watch)
            asked = open_reply(self._session, self._url, headers, self._config, watch)
            reply = opening.enter_context(asked)
            start, _ = range_of(reply)
            is_whole = reply.status_code == HTTPStatus.OK or start == 0
            if not is_whole and start != self._position:
                raise MediaError("corrupt", "ends before its members do")
            version = version_of(reply)
            if self._version and not self._version.goes_on_in(version):
                raise RetriesExhaustedError("network", "changed while it was read")
            self._open_reply = opening.pop_all()
        self._watch = watch
        self._version = self._version or version
        self._reply_position = 0 if is_whole else self._position
        return reply

    def _hang_up(self) -> None:
        with suppress(MediaError):  # the watch's error was raised by the read
            self._open_reply.close()
        self._reply = None


def fetch_remote_members(
    session: requests.Session,
    url: str,
    targets: Mapping[str, Path],
    config: DownloadConfig,
    retries: RetryPolicy,
) -> Iterator[tuple[str, Outcome]]:
    """Run ``fetch_members`` on an archive at an http(s) URL."""
    with closing(RemoteArchive(session, url, config, retries)) as raw:
        stream = io.BufferedReader(raw, BLOCK_BYTES)
        try:
            check_head(stream.peek(HEAD_BYTES)[:HEAD_BYTES], "", url)
        except MediaError as error:
            failure = FetchFailure(error.reason, error.detail)
            yield from ((name, failure) for name in targets)
            return
        # On the way or at the source: a later job asks again.
        yield from fetch_members(
            cast(BinaryIO, stream), url, targets, config, reason_of_wrong_bytes="network"
        )
