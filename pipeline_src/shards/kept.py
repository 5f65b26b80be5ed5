"""What has been read of one shard at a URL, in a sparse file of the user's own.

Samples lie where they lie in the shard; behind its end the sha256 of each lies in a place that
follows from where the sample begins, and that of a whole shard before them. So a hole, a torn write
and foreign bytes all read as "not there": there is no list to keep, any number of processes may
share the file, and a kill leaves nothing to repair.
"""

import fcntl
import hashlib
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline_src.shards.files import RemoteShard
from pipeline_src.shards.samples import Sample

NAME_CHARS = 32
SUFFIX = ".av-shard"  # ours alone: a folder may hold other files
SAMPLE_BYTES_MIN = 512  # a sample begins at a multiple of it
DIGEST_BYTES = 32
PAGE_BYTES = 4096
BLOCK_BYTES = 1 << 20
UNIT_BYTES = 512  # of st_blocks


class ForeignFileError(OSError):
    """A file of ours is a link, or somebody else's."""


def kept_path(folder: Path, shard: RemoteShard) -> Path:
    """Return the path of a shard's file."""
    name = hashlib.sha256(shard.url.encode("utf-8", "surrogatepass")).hexdigest()[:NAME_CHARS]
    return folder / f"{name}{SUFFIX}"


class KeptShard:
    """The open file of one shard.

    Args:
        total_bytes: of the whole shard.
    """

    def __init__(self, descriptor: int, total_bytes: int) -> None:
        self._descriptor = descriptor
        self._total_bytes = total_bytes
        self._digests = -(-total_bytes // PAGE_BYTES) * PAGE_BYTES

    def sample(self, sample: Sample) -> memoryview | None:
        """Return the bytes of a sample if the file holds them, whole and as they were fetched."""
        data = self._read(sample)
        if data is None:
            return None
        digest = os.pread(self._descriptor, DIGEST_BYTES, self._place(sample))
        return data if digest == hashlib.sha256(data).digest() else None

    def sample_of_whole(self, sample: Sample) -> memoryview | None:
        """Return a sample of a file that ``is_whole``; its checksum is noted as it is read."""
        data = self._read(sample)
        if data is not None:
            self._note(sample, data)
        return data

    def is_whole(self, sha256: str) -> bool:
        """Return whether the whole shard was fetched and has not changed: every byte is read.

        Args:
            sha256: what its manifest says; empty = what was noted when it was fetched.
        """
        noted = os.pread(self._descriptor, DIGEST_BYTES, self._digests)
        if not any(noted):
            return False
        if self._whole_sum().hex() == (sha256 or noted.hex()):
            return True
        os.pwrite(self._descriptor, bytes(DIGEST_BYTES), self._digests)  # not to be read again
        return False

    @property
    def number(self) -> int:
        """The file's own number: a file of the same name that is made later has another."""
        return os.fstat(self._descriptor).st_ino

    def keep(self, sample: Sample, data: memoryview) -> None:
        """Write a sample, then its checksum."""
        os.pwrite(self._descriptor, data, sample.offset_bytes)
        self._note(sample, data)

    def keep_whole(self, blocks: Iterator[bytes]) -> str:
        """Write a whole shard as it arrives; return its sha256.

        Raises:
            OSError: it has another size.
        """
        digest, position = hashlib.sha256(), 0
        for block in blocks:
            if position + len(block) > self._total_bytes:
                break
            os.pwrite(self._descriptor, block, position)
            digest.update(block)
            position += len(block)
        if position != self._total_bytes:
            raise OSError(f"{position} of {self._total_bytes} bytes came")
        os.pwrite(self._descriptor, digest.digest(), self._digests)
        return digest.hexdigest()

    def lock(self) -> None:
        """Wait until no other process fetches this shard; held until the file is closed."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def _read(self, sample: Sample) -> memoryview | None:
        data = np.empty(sample.size_bytes, np.uint8).data
        num_read = os.preadv(self._descriptor, [data], sample.offset_bytes)
        return data if num_read == len(data) and zlib.crc32(data) == sample.crc32 else None

    def _note(self, sample: Sample, data: memoryview) -> None:
        os.pwrite(self._descriptor, hashlib.sha256(data).digest(), self._place(sample))

    def _place(self, sample: Sample) -> int:
        return self._digests + (1 + sample.offset_bytes // SAMPLE_BYTES_MIN) * DIGEST_BYTES

    def _whole_sum(self) -> bytes:
        digest = hashlib.sha256()
        for first in range(0, self._total_bytes, BLOCK_BYTES):
            size = min(BLOCK_BYTES, self._total_bytes - first)
            digest.update(os.pread(self._descriptor, size, first))
        return digest.digest()


@contextmanager
def open_kept(path: Path, shard: RemoteShard) -> Iterator[KeptShard]:
    """Open a shard's file, made where it is missing.

    Raises:
        ForeignFileError: it is a link, or somebody else's. OSError: it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise ForeignFileError(f"{path} is a link; delete it") from None
        raise error
    try:
        status = os.fstat(descriptor)
        if not _is_own(status):
            raise ForeignFileError(f"{path} is not your own file; delete it")
        yield KeptShard(descriptor, shard.bytes)
    finally:
        os.close(descriptor)


def own_files(folder: Path) -> list[tuple[float, int, Path]]:
    """List when each shard's file was last written to, the space it takes, and its path."""
    found = []
    for path in folder.glob(f"{'[0-9a-f]' * NAME_CHARS}{SUFFIX}"):
        try:
            status = path.lstat()
        except FileNotFoundError:  # another process deleted it
            continue
        if _is_own(status):
            found.append((status.st_mtime, status.st_blocks * UNIT_BYTES, path))
    return found


def _is_own(status: os.stat_result) -> bool:
    """Return whether it is the user's regular file without another hard link."""
    is_alone = status.st_uid == os.geteuid() and status.st_nlink <= 1
    return stat.S_ISREG(status.st_mode) and is_alone
