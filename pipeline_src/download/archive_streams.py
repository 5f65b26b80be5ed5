"""Archives as the libraries read them: within bounds, and told when what they unpack is wrong."""

import gzip
import io
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pipeline_src.errors import MediaError

MAX_HEADER_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 1 << 28


class WrongBytesError(MediaError):
    """What gzip gave is not what was packed, and nothing tells which of its bytes are wrong."""


class CheckedGzip(gzip.GzipFile):
    """A gzip file that tells wrong bytes from an early end and from rubbish behind it."""

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (gzip.BadGzipFile, zlib.error) as error:
            if "Not a gzipped file" in str(error):
                raise
            raise WrongBytesError(
                "corrupt", f"{error}: any byte of it may be wrong, so that no clip of it is taken"
            ) from error

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes."""
        with self._checked():
            return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; what is passed over is unpacked."""
        with self._checked():
            return super().seek(offset, whence)


class BoundedArchive:
    """An archive as the libraries read it, without the reads that a forged header could ask for.

    tarfile takes the length of long names and pax records from the archive and reads that much at
    once: declared as 10 GB it would be allocated.

    Args:
        max_read: bytes of the largest header.
        deadline: of time.monotonic(); reading ends then.
    """

    def __init__(
        self, stream: BinaryIO, max_read: int = MAX_HEADER_BYTES, deadline: float = float("inf")
    ) -> None:
        self._stream = stream
        self._max_read = max_read
        self._deadline = deadline
        self.seek, self.tell = stream.seek, stream.tell

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes.

        Raises:
            tarfile.ReadError: no header and no block of a member is that long.
            MediaError: the time is over.
        """
        if not 0 <= size <= self._max_read:
            raise tarfile.ReadError(f"a header declares {size} bytes")
        if time.monotonic() > self._deadline:
            raise MediaError("timeout", "the archive was not read in time")
        return self._stream.read(size)


class BoundedDirectory(BoundedArchive):
    """The same for zipfile, which asks for all that is left where it expects little."""

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes; without one, as much as a directory can have."""
        return super().read(MAX_DIRECTORY_BYTES if size < 0 else size)
