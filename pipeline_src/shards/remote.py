"""Samples of shards at URLs, read by byte range and kept in a folder of bounded size.

Each shard has one sparse file in the folder, into which its samples are written where they lie in
the shard. Whether one is there is told by its CRC-32 alone: a hole reads as zeros, a torn write has
another sum. So there is no list to keep, any number of processes may share the folder, and a kill
leaves nothing to repair. Files that were written to longest ago are deleted for room.
"""

import fcntl
import hashlib
import logging
import os
import tempfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipeline_src.config.data import RemoteConfig
from pipeline_src.errors import ManifestError, SampleError, is_disk_full
from pipeline_src.shards.files import RemoteShard
from pipeline_src.shards.read import Sample
from pipeline_src.shards.transfer import NoRangeError, Transfer

LOGGER = logging.getLogger(__name__)
BYTES_PER_GIGABYTE = 10**9
UNIT_BYTES = 512  # of st_blocks
TRIMS_PER_CACHE = 20  # the folder is looked through after so large a share was written


class RemoteReader:
    """Reads samples of shards at URLs; one per process."""

    def __init__(self, config: RemoteConfig) -> None:
        self._config = config
        self._transfer = Transfer(config)
        self._threads = ThreadPoolExecutor(config.num_connections)
        self._limit = int(config.cache_gigabytes * BYTES_PER_GIGABYTE)
        self._written = self._limit  # look through the folder at the first write
        self._folder = cache_folder(config)
        self._folder.mkdir(parents=True, exist_ok=True)

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Bring samples into the folder, several at a time; what fails is left for ``read``."""
        for future in [self._threads.submit(self.read, sample) for sample in samples]:
            if error := future.exception():
                LOGGER.info("%s", error)

    def read(self, sample: Sample) -> memoryview:
        """All bytes of a sample.

        Raises:
            ManifestError: not to be had. SampleError: what is there is not what was packed.
        """
        assert isinstance(sample.shard, RemoteShard)
        path = self._folder / (hashlib.sha256(sample.shard.url.encode()).hexdigest()[:32] + ".tar")
        data = _cached(path, sample)
        if data is None:
            try:
                data = self._transfer.attempt(
                    sample.shard.url, lambda: self._fetch(sample, sample.shard)
                )
                self._keep(path, sample, data)
            except NoRangeError:
                data = self._fetch_whole(path, sample, sample.shard)
        return data

    def _fetch(self, sample: Sample, shard: object) -> memoryview:
        assert isinstance(shard, RemoteShard)
        first, size = sample.offset_bytes, sample.size_bytes
        content = self._transfer.span(shard.url, first, size, shard.bytes)
        if len(content) != size:
            raise OSError(f"{len(content)} of {size} bytes came")
        return _checked(sample, np.frombuffer(bytearray(content), np.uint8).data)

    def _keep(self, path: Path, sample: Sample, data: memoryview) -> None:
        """Write a sample where it lies; a full disk only costs the copy."""
        self._make_room(sample.size_bytes)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(descriptor, data, sample.offset_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not is_disk_full(error):
                raise
            LOGGER.warning("%s: disk full, shards are read without being kept", path)

    def _fetch_whole(self, path: Path, sample: Sample, shard: RemoteShard) -> memoryview:
        """Bring the whole shard from a server that knows no ranges; one process at a time does."""
        if shard.bytes > self._limit:
            raise ManifestError(
                f"{shard.url}: its server sends whole files only, and remote.cache_gigabytes="
                f"{self._config.cache_gigabytes:g} holds none of {shard.bytes} bytes; raise it"
            )
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            data = _cached(path, sample)
            if data is None:
                self._make_room(shard.bytes)
                self._transfer.attempt(shard.url, lambda: self._copy(path, shard))
                data = _cached(path, sample)
        if data is None:
            raise _changed(sample)
        return data

    def _copy(self, path: Path, shard: RemoteShard) -> None:
        size = 0
        with path.open("r+b" if path.exists() else "w+b") as stream:
            for block in self._transfer.stream(shard.url):
                stream.write(block)
                size += len(block)
        if size != shard.bytes:
            raise OSError(f"{size} of {shard.bytes} bytes came")

    def _make_room(self, size: int) -> None:
        """Delete the files that were written to longest ago where the folder grows too large."""
        self._written += size
        if self._written < self._limit / TRIMS_PER_CACHE:
            return
        self._written = 0
        found = []
        for path in self._folder.glob("*.tar"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process deleted it
                continue
            found.append((status.st_mtime, status.st_blocks * UNIT_BYTES, path))
        total = sum(taken for _, taken, _ in found) + size
        for _, taken, path in sorted(found):
            if total <= self._limit * (1 - 1 / TRIMS_PER_CACHE):
                return
            path.unlink(missing_ok=True)
            total -= taken


def cache_folder(config: RemoteConfig) -> Path:
    """Where what was read is kept."""
    if config.cache_folder:
        return Path(os.path.expandvars(config.cache_folder)).expanduser()
    return Path(tempfile.gettempdir()) / f"av-pipeline-shards-{os.getuid()}"


def _cached(path: Path, sample: Sample) -> memoryview | None:
    """The bytes of a sample if the file holds them."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        data = np.empty(sample.size_bytes, np.uint8).data
        num_read = os.preadv(descriptor, [data], sample.offset_bytes)
    finally:
        os.close(descriptor)
    return data if num_read == len(data) and zlib.crc32(data) == sample.crc32 else None


def _checked(sample: Sample, data: memoryview) -> memoryview:
    if zlib.crc32(data) != sample.crc32:
        raise _changed(sample)
    return data


def _changed(sample: Sample) -> SampleError:
    return SampleError(
        f"{sample.shard}: sample {sample.key!r} is not what was packed (CRC-32): the shard is "
        "damaged, or was packed again; then fetch the index again (--forcerun fetch_index)"
    )
