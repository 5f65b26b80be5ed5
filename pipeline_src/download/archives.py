"""Members of archives as people make them: tar, tar compressed with gzip, zip on this machine.

A member is found by its exact name, or else by the same name in another spelling (``./``, ``/`` at
its beginning or twice, backslashes, composed or decomposed accents, names in Latin-1). What tar -r
or -u appended counts: the last copy. Hard links give the member that they linked to when they were
written; tars that were joined are read to the end of the last. Names inside archives never become
paths here.
"""

import stat
import sys
import tarfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from pipeline_src.config.data import DownloadConfig
from pipeline_src.datasets.sources import ARCHIVES
from pipeline_src.download.archive_streams import (
    MAX_DIRECTORY_BYTES,
    BoundedArchive,
    BoundedDirectory,
    CheckedGzip,
    WrongBytesError,
)
from pipeline_src.download.sources import Fetched, FetchFailure, Outcome
from pipeline_src.download.store import Readable, check_size, part_path, read_blocks, store
from pipeline_src.errors import MediaError

NO_MEMBER = "no such regular member in"
# Zeros after a tar: tar fills up records of 10 KiB, some writers larger ones.
MAX_PADDING_BYTES = 1 << 24
MAX_LINKS = 4
OTHER_COMPRESSIONS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstd",
    b"7z\xbc\xaf": "7-Zip",
    b"Rar!": "RAR",
}
# What the libraries raise for damaged or forged headers: RuntimeError also of nested ones, and of a
# compression or version that zipfile does not know.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError),
    *(LookupError, ArithmeticError, RuntimeError),
)


class Member(NamedTuple):
    """One entry of an archive.

    Args:
        kind: what it is where it is no regular file. link: the member a hard link stands for.
    """

    name: str
    size: int
    kind: str = ""
    link: str = ""
    open: Callable[[], Readable] | None = None


def plain_name(name: str) -> str:
    """Normalise a member's name to the form that all its spellings share."""
    data = name.encode("utf-8", "surrogateescape")
    try:
        name = data.decode()
    except UnicodeDecodeError:
        name = data.decode("latin-1")
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return unicodedata.normalize("NFC", "/".join(parts))


def fetch_members(
    stream: BinaryIO,
    archive: str,
    targets: Mapping[str, Path],
    config: DownloadConfig,
    *,
    reason_of_wrong_bytes: str = "corrupt",
) -> Iterator[tuple[str, Outcome]]:
    """Extract the wanted members in one pass over the archive, another where links ask for it.

    Args:
        archive: its name, for messages. targets: member name -> file to write.
    Yields:
        Member name with the file or the reason; every wanted member once. Only regular members
        count: no symbolic link is followed, no device or folder made, no sparse file filled up.
    """
    search = _Search(targets, config)
    reason, detail = "unavailable", f"{NO_MEMBER} {archive}"
    deadline = time.monotonic() + config.max_transfer_seconds * (len(targets) + 1)
    try:
        search.run(stream, deadline)
    except WrongBytesError as error:
        reason, detail = reason_of_wrong_bytes, f"{archive}: {error.detail}"
        search.drop_all()
    except MediaError as error:
        reason, detail = error.reason, f"{archive}: {error.detail}"
    except DAMAGE as error:
        reason, detail = "corrupt", f"{archive}: {error}"
    for name in targets:
        if name in search.found:
            yield name, search.found[name]
        elif reason == "unavailable" and name in search.kinds:
            yield name, FetchFailure(reason, f"{search.kinds[name]}, {detail}")
        else:
            yield name, FetchFailure(reason, detail)


class _Search:
    """What has been found of the wanted members so far."""

    def __init__(self, targets: Mapping[str, Path], config: DownloadConfig) -> None:
        self._targets = targets
        self._config = config
        self._exact: set[str] = set()
        self._links: dict[str, tuple[str, int]] = {}
        self.found: dict[str, Outcome] = {}
        self.kinds: dict[str, str] = {}

    def run(self, stream: BinaryIO, deadline: float) -> None:
        """Find the members; then what hard links among them stand for."""
        names = {name: (name, sys.maxsize) for name in self._targets}
        for _ in range(MAX_LINKS):
            self._pass(stream, names, deadline)
            if not self._links:
                return
            names, self._links = self._links, {}
            self._exact -= names.keys()
            stream.seek(0)

    def drop_all(self) -> None:
        """Remove what has been found."""
        for key in self.found:
            part_path(self._targets[key]).unlink(missing_ok=True)
        self.found.clear()

    def _pass(
        self, stream: BinaryIO, names: Mapping[str, tuple[str, int]], deadline: float
    ) -> None:
        """Take what has the wanted names.

        Args:
            names: key -> name, and the number of the member that links to it: one behind it counts
                only where none comes before.
        """
        wanted: dict[str, list[str]] = {}
        for key, (name, _) in names.items():
            wanted.setdefault(plain_name(name), []).append(key)
        for number, member in enumerate(walk_archive(stream, deadline)):
            for key in wanted.get(plain_name(member.name), ()):
                name, end = names[key]
                is_exact = member.name == name
                is_late = number >= end and (key in self.found or key in self._links)
                if not is_late and (is_exact or key not in self._exact):
                    self._exact |= {key} if is_exact else set()
                    self._take(key, member, number)

    def _take(self, key: str, member: Member, number: int) -> None:
        """Take a copy; a later one replaces it."""
        self.found.pop(key, None)
        self._links.pop(key, None)
        if member.link:
            self._links[key] = (member.link, number)
            self.kinds[key] = member.kind
        elif member.open is None:
            self.kinds[key] = member.kind
        else:
            self.found[key] = _extract(member, self._targets[key], self._config.max_bytes)


def member_sizes(archive: Path) -> dict[str, int]:
    """Map ``plain_name`` to the bytes of each regular member of a local archive; damage ends it."""
    sizes: dict[str, int] = {}
    try:
        with archive.open("rb") as stream:
            for member in walk_archive(stream):
                if member.open is not None:
                    sizes[plain_name(member.name)] = member.size
    except (MediaError, *DAMAGE):
        pass
    return sizes


def walk_archive(stream: BinaryIO, deadline: float = float("inf")) -> Iterator[Member]:
    """Yield the entries of an archive, whose kind is recognised by its first bytes.

    Raises:
        MediaError: of a kind that is not read, or not read in time. DAMAGE: it is damaged.
    """
    head = stream.read(8)
    stream.seek(0)
    for magic, name in OTHER_COMPRESSIONS.items():
        if head.startswith(magic):
            raise MediaError("unsupported", f"is compressed with {name}; allowed are {ARCHIVES}")
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        yield from _zip_members(stream, deadline)
    elif head.startswith(b"\x1f\x8b"):
        bounded = cast(BinaryIO, BoundedArchive(stream, deadline=deadline))
        with CheckedGzip(fileobj=bounded) as inner:
            yield from _packed_members(cast(BinaryIO, inner), deadline)
    else:
        yield from _tar_members(stream, deadline)


def _zip_members(stream: BinaryIO, deadline: float) -> Iterator[Member]:
    bounded = cast(BinaryIO, BoundedDirectory(stream, MAX_DIRECTORY_BYTES, deadline))
    with zipfile.ZipFile(bounded) as archive:
        for info in archive.infolist():
            kind = ""
            if info.is_dir():
                kind = "a folder"
            elif stat.S_ISLNK(info.external_attr >> 16):
                kind = "a symbolic link"
            elif info.flag_bits & 1:
                kind = "an encrypted file"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                kind = "a file compressed in another way than deflate"
            opener = None if kind else lambda info=info: cast(Readable, archive.open(info))
            yield Member(info.filename, info.file_size, kind, open=opener)


def _packed_members(stream: BinaryIO, deadline: float) -> Iterator[Member]:
    """Yield the members of a packed tar and read it to its end, where the checksum is."""
    damage = None
    try:
        yield from _tar_members(stream, deadline)
    except DAMAGE as error:
        damage = error
    for _ in read_blocks(BoundedArchive(stream, deadline=deadline)):
        pass
    if damage:
        raise damage


def _tar_members(stream: BinaryIO, deadline: float) -> Iterator[Member]:
    """Yield the members of a tar and of those that were joined to it.

    Raises:
        tarfile.ReadError: what was joined to it has no header, or a size of a member leads back.
    """
    bounded = cast(BinaryIO, BoundedArchive(stream, deadline=deadline))
    start: int | None = 0
    while start is not None:
        bounded.seek(start)
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            for info in _forward_only(tar):
                yield _tar_member(tar, info)
            if start and tar.offset == start:
                raise tarfile.ReadError(f"no header at byte {start}")
            start = _next_tar(bounded, tar.offset)


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.isreg() and not info.issparse():
        return Member(info.name, info.size, open=lambda: cast(Readable, tar.extractfile(info)))
    if info.islnk():
        return Member(info.name, 0, "a hard link", info.linkname)
    names = ((info.isdir, "a folder"), (info.issym, "a symbolic link"), (info.isreg, "sparse"))
    kind = next((name for is_kind, name in names if is_kind()), "a device")
    return Member(info.name, 0, kind)


def _next_tar(stream: BinaryIO, end: int) -> int | None:
    """Return where another tar begins behind the zeros that end one; None where nothing follows."""
    stream.seek(end)
    limit = end + MAX_PADDING_BYTES
    while end < limit:
        block = stream.read(tarfile.RECORDSIZE)
        if not block:
            return None
        if zeros := len(block) - len(block.lstrip(b"\0")):
            end += zeros - zeros % tarfile.BLOCKSIZE
        if zeros < len(block):
            return end
    return None


def _forward_only(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive; refuse sizes that would lead back and loop endlessly.

    Raises:
        tarfile.ReadError: a member has such a size.
    """
    offset = -1
    while (member := tar.next()) is not None:
        if tar.offset <= offset or member.size < 0:
            raise tarfile.ReadError(f"member {member.name!r} declares {member.size} bytes")
        offset = tar.offset
        # An archive of a million names would fill the memory.
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        yield member


def _extract(member: Member, target: Path, max_bytes: int) -> Outcome:
    assert member.open is not None
    try:
        check_size(member.size, max_bytes)
        fetched: Fetched = store(read_blocks(member.open()), target, max_bytes)
        if fetched.bytes != member.size:
            raise MediaError("corrupt", f"{fetched.bytes} of {member.size} bytes")
    except (tarfile.ReadError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        return FetchFailure("corrupt", f"{member.name}: {error}")
    except WrongBytesError:
        raise
    except MediaError as error:
        return FetchFailure(error.reason, f"{member.name}: {error.detail}")
    return fetched
