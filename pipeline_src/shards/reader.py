"""Random access to samples: one read per sample, tar headers parsed in memory."""

import errno
import os
import resource
import zlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_src.config.data import RemoteConfig
from pipeline_src.errors import ManifestError, SampleError, shown
from pipeline_src.shards.files import RemoteShard, remedy
from pipeline_src.shards.samples import Sample

if TYPE_CHECKING:
    from pipeline_src.shards.remote import RemoteReader

MAX_OPEN_SHARDS = 4096
BLOCK_BYTES = 512
NAME = slice(0, 100)
SIZE = slice(124, 136)
CHECKSUM = slice(148, 156)
TYPE = slice(156, 157)
ADLER_MODULUS = 65521
REGULAR, PAX_HEADER = b"0", b"x"
PAX_PATH = b" path="

Members = dict[str, memoryview]


class ShardReader:
    """Read samples; shards open on first use and stay open. Safe to fork and pickle.

    Args:
        remote: how shards at URLs are read.
        reuses_memory: what ``read`` returns holds until its next call, which then needs no new
            pages: a third of the time of reading from the page cache.
    """

    def __init__(self, remote: RemoteConfig | None = None, *, reuses_memory: bool = False) -> None:
        self._descriptors: dict[Path, int] = {}
        self._buffer = np.empty(1, np.uint8) if reuses_memory else None
        self._config = remote or RemoteConfig()
        self._remote: tuple[int, RemoteReader] | None = None  # threads do not survive a fork

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptors": {}, "_remote": None}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close all shards; the next read opens its shard again."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def read(self, sample: Sample, extensions: Collection[str] | None = None) -> Members:
        """Return {extension: content} of a sample: ``logmel.npy``, ``frame_03.jpg``, ``json``, ...

        Contents are parts of one buffer, which may be written to.

        Args:
            extensions: only these; None = all.
        Raises:
            SampleError: the shard is damaged there, or lacks a wanted member.
            ManifestError: the shard is missing or cannot be reached.
        """
        members = parse_members(sample, self._bytes(sample), extensions)
        missing = sorted(set(extensions or ()) - members.keys())
        if missing:
            raise _damaged(sample, f"has no member {', '.join(missing)}")
        return members

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Bring samples at URLs near, several at a time; a file system does so by itself."""
        remote = [sample for sample in samples if isinstance(sample.shard, RemoteShard)]
        if remote:
            self._remote_reader().prefetch(remote)

    def _bytes(self, sample: Sample) -> memoryview:
        if isinstance(sample.shard, RemoteShard):
            return self._remote_reader().read(sample)
        data = self._memory(sample.size_bytes)
        try:
            num_read = os.preadv(self._open(sample.shard), [data], sample.offset_bytes)
        except OSError as error:  # a disk that cannot read a sector says EIO
            raise _damaged(sample, f"cannot be read ({error.strerror})") from error
        if num_read != sample.size_bytes:
            raise _damaged(sample, f"ends after {num_read} of {sample.size_bytes} bytes")
        # At every read: a flipped bit in a frame decodes to another picture without an error.
        if zlib.crc32(data) != sample.crc32:
            raise _damaged(sample, "is not what was packed (CRC-32)")
        return data

    def _memory(self, size: int) -> memoryview:
        """Return bytes to read into, not zeroed first."""
        if self._buffer is None:
            return np.empty(size, np.uint8).data
        if len(self._buffer) < size:
            self._buffer = np.empty(2 * size, np.uint8)
        return self._buffer[:size].data

    def _remote_reader(self) -> "RemoteReader":
        # Local shards are read without it, and without the HTTP client that it needs.
        from pipeline_src.shards.remote import RemoteReader

        if self._remote is None or self._remote[0] != os.getpid():
            self._remote = (os.getpid(), RemoteReader(self._config))
        return self._remote[1]

    def _open_file(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            if not _is_too_many(error) or not self._descriptors:
                raise
        self.close()  # others of this process have the rest
        return os.open(path, os.O_RDONLY)

    def _open(self, path: Path) -> int:
        if path not in self._descriptors:
            if len(self._descriptors) >= max_open_shards():  # the oldest
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            try:
                self._descriptors[path] = self._open_file(path)
            except FileNotFoundError:
                raise ManifestError(f"{path}: shard is missing; {remedy(path)}") from None
        return self._descriptors[path]


def _is_too_many(error: OSError) -> bool:
    return error.errno in (errno.EMFILE, errno.ENFILE)


def raise_open_files() -> None:
    """Let this process open enough files for ``MAX_OPEN_SHARDS``, as far as its hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    has_bound = hard != resource.RLIM_INFINITY
    wanted = min(4 * MAX_OPEN_SHARDS, hard) if has_bound else 4 * MAX_OPEN_SHARDS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_open_shards() -> int:
    """Return how many shards a reader keeps open: a quarter of what ``ulimit -n`` allows.

    Random access to a data set of more shards than that opens a file at most reads, which on a
    network file system is a message to its server each.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN_SHARDS if soft == resource.RLIM_INFINITY else min(MAX_OPEN_SHARDS, soft // 4)


def parse_members(
    sample: Sample, data: memoryview, extensions: Collection[str] | None = None
) -> Members:
    """Return the members in the bytes of a sample; ``extensions``: only these.

    Raises:
        SampleError: damaged, or of another sample.
    """
    members: Members = {}
    position = 0
    long_name = b""
    while position < len(data):
        header = bytes(data[position : position + BLOCK_BYTES])
        size = _check_header(sample, header)
        content = data[position + BLOCK_BYTES : position + BLOCK_BYTES + size]
        if len(content) != size:
            raise _damaged(sample, "has a member that reaches over its end")
        position += BLOCK_BYTES + -(-size // BLOCK_BYTES) * BLOCK_BYTES
        if header[TYPE] == PAX_HEADER:
            long_name = _pax_path(bytes(content)) or long_name
            continue
        name = long_name or header[NAME].partition(b"\0")[0]
        long_name = b""
        member_key, _, extension = name.decode(errors="replace").partition(".")
        is_own = member_key == sample.key and name.isascii() and extension not in members
        if not is_own or header[TYPE] != REGULAR:
            raise _damaged(sample, f"has a member {shown(name)} that is not its own")
        if extensions is None or extension in extensions:
            members[extension] = content
    if not position:
        raise _damaged(sample, "has no members")
    return members


def _check_header(sample: Sample, header: bytes) -> int:
    """Verify the header's checksum (own field counted as blanks); return the member's size.

    Raises:
        SampleError: it is no tar header, or its checksum is wrong.
    """
    checksum, size = (header[field].strip(b"\0 ") for field in (CHECKSUM, SIZE))
    # int() would take signs, underscores and blanks inside too.
    if not checksum.isdigit() or not size.isdigit():
        raise _damaged(sample, "has no tar header where one must be")
    try:
        stated, num_bytes = int(checksum, 8), int(size, 8)
    except ValueError:
        raise _damaged(sample, "has no tar header where one must be") from None
    total = stated + sum(header[CHECKSUM]) - 8 * ord(" ")
    # The low half of Adler-32 is 1 + the sum of the bytes, a tenth of the time of ``sum``.
    if zlib.adler32(header) & 0xFFFF != (1 + total) % ADLER_MODULUS:
        raise _damaged(sample, "has a tar header with a wrong checksum")
    return num_bytes


def _damaged(sample: Sample, what: str) -> SampleError:
    return SampleError(
        f"{sample.shard}: clip {shown(sample.clip_id)} {what}: damaged; {remedy(sample.shard)}"
    )


def _pax_path(content: bytes) -> bytes:
    """Return the name in a PAX header (tar's for names over 100 bytes); it may have none.

    Some programs write such headers for times alone.
    """
    records = content.split(b"\n")
    return next((record.split(PAX_PATH, 1)[1] for record in records if PAX_PATH in record), b"")
