"""Samples of shards at URLs, read by byte range and kept in a folder of bounded size.

The folder is the user's own and closed to others, and holds one file per shard (``kept``); others
that lie there are left alone. Any number of processes may share it. Files that were written to
longest ago are deleted for room.
"""

import logging
import os
import tempfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipeline_src.config.data import RemoteConfig
from pipeline_src.errors import ManifestError, SampleError, describe_disk_full, is_disk_full
from pipeline_src.shards.files import RemoteShard
from pipeline_src.shards.kept import ForeignFileError, KeptShard, kept_path, open_kept, own_files
from pipeline_src.shards.samples import Sample
from pipeline_src.shards.transfer import NoRangeError, Transfer
from pipeline_src.system.own_folder import make_own_folder

logger = logging.getLogger(__name__)
BYTES_PER_GIGABYTE = 10**9
TRIMS_PER_CACHE = 20  # the folder is looked through after so large a share was written


class RemoteReader:
    """Reads samples of shards at URLs; one per process.

    Raises:
        ManifestError: others could change what lies in the folder.
    """

    def __init__(self, config: RemoteConfig) -> None:
        self._config = config
        self._transfer = Transfer(config)
        self._threads = ThreadPoolExecutor(config.num_connections)
        self._limit = int(config.cache_gigabytes * BYTES_PER_GIGABYTE)
        self._written = self._limit  # look through the folder at the first write
        self._folder = cache_folder(config)
        self._whole: set[tuple[str, int]] = set()  # shards that this process found whole
        if wrong := make_own_folder(self._folder):
            raise ManifestError(
                f"remote.cache_folder: {self._folder}: {wrong}; training data are read from it, so "
                "it must be a folder of your own that only you may write to: chmod go-w, or "
                "another remote.cache_folder"
            )

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Bring samples into the folder, several at a time; failures are left to ``read``."""
        for future in [self._threads.submit(self.read, sample) for sample in samples]:
            if error := future.exception():
                logger.info("%s", error)

    def read(self, sample: Sample) -> memoryview:
        """Return all bytes of a sample.

        Raises:
            ManifestError: it cannot be fetched. SampleError: what is there is not what was packed.
        """
        shard = sample.shard
        assert isinstance(shard, RemoteShard)
        path = kept_path(self._folder, shard)
        try:
            return self._read(path, sample, shard)
        except (ForeignFileError, PermissionError) as error:
            raise ManifestError(f"remote.cache_folder: {error}") from None

    def _read(self, path: Path, sample: Sample, shard: RemoteShard) -> memoryview:
        with open_kept(path, shard) as kept:
            if (data := self._found(kept, sample, shard)) is not None:
                return data
            try:
                data = self._transfer.attempt(shard.url, lambda: self._fetch(sample, shard))
            except NoRangeError:
                return self._fetch_whole(path, sample, shard)
            self._make_room(sample.size_bytes)
            try:
                kept.keep(sample, data)
            except OSError as error:
                if not is_disk_full(error):
                    raise
                logger.warning("%s: disk full, shards are read without being kept", self._folder)
            return data

    def _found(self, kept: KeptShard, sample: Sample, shard: RemoteShard) -> memoryview | None:
        """Return a sample that was read before, or lies in a shard that was fetched whole."""
        if (data := kept.sample(sample)) is not None:
            return data
        seen = (shard.url, kept.number)
        if seen not in self._whole and kept.is_whole(shard.sha256):
            self._whole.add(seen)
        return kept.sample_of_whole(sample) if seen in self._whole else None

    def _fetch(self, sample: Sample, shard: RemoteShard) -> memoryview:
        first, size = sample.offset_bytes, sample.size_bytes
        content = self._transfer.span(shard.url, first, size, shard.bytes)
        if len(content) != size:
            raise OSError(f"{len(content)} of {size} bytes came")
        data = np.frombuffer(bytearray(content), np.uint8).data
        if zlib.crc32(data) != sample.crc32:
            raise _changed(sample)
        return data

    def _fetch_whole(self, path: Path, sample: Sample, shard: RemoteShard) -> memoryview:
        """Fetch the whole shard from a server without ranges; one process at a time does.

        Args:
            path: where it is kept.
        Raises:
            ManifestError: the cache cannot hold it, or it cannot be fetched.
            SampleError: what is there is not what was packed.
        """
        if shard.bytes > self._limit:
            raise ManifestError(
                f"{shard.url}: its server sends whole files only, and remote.cache_gigabytes="
                f"{self._config.cache_gigabytes:g} holds none of {shard.bytes} bytes; raise it"
            )
        with open_kept(path, shard) as kept:
            kept.lock()
            if (data := self._found(kept, sample, shard)) is not None:
                return data
            self._make_room(shard.bytes)
            try:
                found = self._transfer.attempt(
                    shard.url,
                    lambda: kept.keep_whole(self._transfer.stream(shard.url, shard.bytes)),
                )
            except OSError as error:
                if is_disk_full(error):
                    raise ManifestError(describe_disk_full(error, path)) from error
                raise
            if shard.sha256 and found != shard.sha256:
                raise _changed(sample)
            self._whole.add((shard.url, kept.number))
            if (data := kept.sample_of_whole(sample)) is None:
                raise _changed(sample)
            return data

    def _make_room(self, size: int) -> None:
        """Delete the files that were written to longest ago where the folder grows too large."""
        self._written += size
        if self._written < self._limit / TRIMS_PER_CACHE:
            return
        self._written = 0
        found = own_files(self._folder)
        total = sum(taken for _, taken, _ in found) + size
        for _, taken, path in sorted(found):
            if total <= self._limit * (1 - 1 / TRIMS_PER_CACHE):
                return
            path.unlink(missing_ok=True)
            total -= taken


def cache_folder(config: RemoteConfig) -> Path:
    """Return the folder that read samples are kept in."""
    if config.cache_folder:
        return Path(os.path.expandvars(config.cache_folder)).expanduser()
    return Path(tempfile.gettempdir()) / f"av-pipeline-shards-{os.getuid()}"


def _changed(sample: Sample) -> SampleError:
    return SampleError(
        f"{sample.shard}: clip {sample.clip_id} is not what was packed (checksum): the shard is "
        "damaged, or was packed again; then fetch the index again (--forcerun fetch_index)"
    )
