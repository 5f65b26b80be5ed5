"""Write the tars of one chunk, one after the other.

They are cut by bytes while they are written: an estimate at planning would have to know the clips.
"""

import hashlib
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from webdataset.writer import TarWriter

from pipeline_src.manifest.tars import remove_leftovers
from pipeline_src.shards.files import ShardFile, Span
from pipeline_src.system.atomic import atomic_path

OWNER = "root"


class ShardWriter:
    """Write samples into tars of about ``target_bytes``; same samples, same bytes.

    Args:
        first_path: of the first tar; what an earlier packing left of the others is removed.
    """

    def __init__(self, first_path: Path, target_bytes: int) -> None:
        self._first_path, self._target_bytes = first_path, target_bytes
        self._stack = ExitStack()
        self._tar: TarWriter | None = None
        self._path = first_path
        self._bounds: list[tuple[int, int]] = []
        self.files: list[ShardFile] = []
        self.spans: list[Span] = []

    def __enter__(self) -> "ShardWriter":
        for path in later_tars(self._first_path):
            path.unlink()
        self._open()  # a chunk without clips has an empty tar
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._finish()
        else:
            self._stack.__exit__(kind, error, trace)

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append one sample, in a new tar where the last one has its size."""
        if self._bounds and sum(self._bounds[-1]) >= self._target_bytes:
            self._finish()
            self._open()
        assert self._tar  # open between __enter__ and __exit__
        first = self._tar.tarstream.offset
        self._tar.write({"__key__": key, **members})
        self._bounds.append((first, self._tar.tarstream.offset - first))

    def _open(self) -> None:
        number = len(self.files)
        name = f"{self._first_path.stem}_{number:03d}.tar" if number else self._first_path.name
        self._path = self._first_path.with_name(name)
        remove_leftovers(self._path)
        temporary = self._stack.enter_context(atomic_path(self._path))
        stream = self._stack.enter_context(temporary.open("wb"))
        tar = TarWriter(stream, user=OWNER, group=OWNER, mtime=0, encoder=False)
        self._tar = self._stack.enter_context(tar)

    def _finish(self) -> None:
        self._stack.close()
        shard, spans = _describe(self._path, self._bounds)
        self.files.append(shard)
        self.spans += spans
        self._bounds = []


def _describe(path: Path, bounds: list[tuple[int, int]]) -> tuple[ShardFile, list[Span]]:
    """Compute checksums of a whole tar and of each sample, in one pass."""
    digest = hashlib.sha256()
    spans: list[Span] = []
    with path.open("rb") as stream:
        for first, size in bounds:
            data = stream.read(size)
            digest.update(data)
            spans.append(Span(first, size, zlib.crc32(data)))
        digest.update(stream.read())  # the end of the archive
    return ShardFile(path.name, len(bounds), path.stat().st_size, digest.hexdigest()), spans


def later_tars(first_path: Path) -> list[Path]:
    """Return the second and further tars of a chunk that lie beside its first."""
    return sorted(first_path.parent.glob(f"{first_path.stem}_[0-9][0-9][0-9].tar"))
