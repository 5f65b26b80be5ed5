"""Local files, and members of tar archives wherever those lie.

Local files stay where they are. Names inside archives never become paths here.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from pipeline_src.download.sources import Fetched, Lost, Outcome
from pipeline_src.download.store import check_size, read_blocks, store
from pipeline_src.errors import MediaError

MAX_HEADER_BYTES = 1 << 20
# What tarfile raises for damaged or forged headers, nested ones included.
DAMAGE = (tarfile.TarError, OSError, ValueError, LookupError, ArithmeticError, RecursionError)


class BoundedArchive:
    """An archive as tarfile reads it, without the reads that a forged header could ask for.

    tarfile takes the length of long names and pax records from the archive and reads that much at
    once: declared as 10 GB it would be allocated.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes.

        Raises:
            tarfile.ReadError: no header and no block of a member is that long.
        """
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header declares {size} bytes")
        return self._stream.read(size)


def fetch_local(path: Path, max_bytes: int) -> Outcome:
    """Check a local file and take its hash; it is used where it lies."""
    try:
        if not path.is_file():
            return Lost("unavailable", f"{path} is not a file")
        size = path.stat().st_size
        check_size(size, max_bytes)
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            for block in read_blocks(stream):
                digest.update(block)
    except MediaError as error:
        return Lost(error.reason, f"{path}: {error.detail}")
    except OSError as error:
        return Lost("unavailable", f"{path}: {error.strerror}")
    return Fetched(path, size, digest.hexdigest())


def fetch_local_members(
    archive: Path, targets: Mapping[str, Path], max_bytes: int
) -> Iterator[tuple[str, Outcome]]:
    """``fetch_members`` of an archive on this machine."""
    try:
        with archive.open("rb") as stream:
            yield from fetch_members(stream, str(archive), targets, max_bytes)
    except FileNotFoundError:
        lost = Lost("unavailable", f"{archive} is not a file")
        yield from ((name, lost) for name in targets)
    except IsADirectoryError:
        lost = Lost("corrupt", f"{archive} is a folder")
        yield from ((name, lost) for name in targets)


def fetch_members(
    stream: BinaryIO, archive: str, targets: Mapping[str, Path], max_bytes: int
) -> Iterator[tuple[str, Outcome]]:
    """Extract the wanted members in one pass over the archive, in archive order.

    Args:
        archive: its name, for messages. targets: member name -> file to write.
    Yields:
        Member name with the file or the reason; every wanted member once. Only regular members
        count: no link is followed, no device or folder made, no sparse file filled up.
    """
    missing = dict(targets)
    try:
        with _open_tar(stream) as tar:
            for member in _forward_only(tar):
                if member.name in missing and member.isreg() and not member.issparse():
                    yield member.name, _extract(tar, member, missing.pop(member.name), max_bytes)
                if not missing:
                    return
        reason, detail = "unavailable", f"no such regular member in {archive}"
    except MediaError as error:
        reason, detail = error.reason, f"{archive}: {error.detail}"
    except DAMAGE as error:
        reason, detail = "corrupt", f"{archive}: {error}"
    for name in missing:
        yield name, Lost(reason, detail)


def member_sizes(archive: Path) -> dict[str, int]:
    """Name -> bytes of the regular members of a local archive; what cannot be read is left out."""
    sizes: dict[str, int] = {}
    try:
        with archive.open("rb") as stream, _open_tar(stream) as tar:
            for member in _forward_only(tar):
                if member.isreg():
                    sizes[member.name] = member.size
    except DAMAGE:
        pass
    return sizes


def _open_tar(stream: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast(BinaryIO, BoundedArchive(stream)), mode="r:")


def _forward_only(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of an archive that does not lead back: a negative size would, for ever."""
    offset = -1
    while (member := tar.next()) is not None:
        if tar.offset <= offset or member.size < 0:
            raise tarfile.ReadError(f"member {member.name!r} declares {member.size} bytes")
        offset = tar.offset
        # An archive of a million names would fill the memory.
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        yield member


def _extract(
    tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, max_bytes: int
) -> Outcome:
    stream = tar.extractfile(member)
    assert stream is not None  # isreg() was checked
    try:
        check_size(member.size, max_bytes)
        fetched = store(read_blocks(stream), target, max_bytes)
        if fetched.bytes != member.size:
            raise MediaError("corrupt", f"{fetched.bytes} of {member.size} bytes")
    except tarfile.ReadError as error:
        return Lost("corrupt", f"{member.name}: {error}")
    except MediaError as error:
        return Lost(error.reason, f"{member.name}: {error.detail}")
    return fetched
