"""Tar files with the same bytes for the same content: no times, no owners."""

import glob
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline_src.errors import ManifestError, shown
from pipeline_src.system.atomic import atomic_path

MEMBER_MODE = 0o444


class TarBuilder:
    """Add members one after the other."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def add(self, name: str, data: bytes) -> None:
        """Append one member; the bytes are those of ``TarFile.addfile``, without its copies."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = MEMBER_MODE
        padding = bytes(-len(data) % tarfile.BLOCKSIZE)
        self._stream.writelines((info.tobuf(tarfile.PAX_FORMAT), data, padding))

    def finish(self) -> None:
        """Write what ends a tar: two empty blocks, and zeros up to a whole record."""
        self._stream.write(bytes(2 * tarfile.BLOCKSIZE))
        self._stream.write(bytes(-self._stream.tell() % tarfile.RECORDSIZE))


def remove_leftovers(path: Path) -> None:
    """Delete what a killed job left of ``path``: one job writes it at a time."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        leftover.unlink()


@contextmanager
def build_tar(path: Path) -> Iterator[TarBuilder]:
    """Write ``path`` whole or not at all."""
    remove_leftovers(path)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        tar = TarBuilder(stream)
        yield tar
        tar.finish()


def read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every member in order.

    Raises:
        ManifestError: the tar is damaged.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                stream = tar.extractfile(member)
                if stream is None:
                    raise ManifestError(
                        f"{path}: member {shown(member.name)} is not a regular file; delete its "
                        "manifest and run again"
                    )
                yield member.name, stream.read()
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise ManifestError(
            f"{path}: damaged ({shown(error)}); delete its manifest and run again"
        ) from error


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield key and {extension: content} of every sample: neighbours with the same key."""
    key: str | None = None
    sample: dict[str, bytes] = {}
    for name, data in read_members(path):
        member_key, _, extension = name.partition(".")
        if key is not None and member_key != key:
            yield key, sample
            sample = {}
        key = member_key
        sample[extension] = data
    if key is not None:
        yield key, sample
