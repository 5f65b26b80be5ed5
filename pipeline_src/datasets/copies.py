"""Files with the same bytes under other names."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

SAMPLE_BYTES = 1 << 14


def find_copies(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Map each later file to the first one with the same bytes; unreadable files are left out.

    Only files of one size are read, and beyond three samples only those that agree in them.
    """
    groups = [list(paths)]
    for key in (_size, _samples, _content):
        groups = [part for group in groups for part in _parts(root, group, key)]
    return {path: group[0] for group in groups for path in group[1:]}


def _parts(
    root: Path, group: Iterable[str], key: Callable[[Path], Hashable]
) -> Iterable[list[str]]:
    """Return the files of each key that has several."""
    parts: dict[Hashable, list[str]] = defaultdict(list)
    for path in group:
        try:
            value = key(root / path)
        except OSError:
            continue
        if value:  # empty files are lost anyway
            parts[value].append(path)
    return [part for part in parts.values() if len(part) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _samples(path: Path) -> bytes:
    """Return a digest of the bytes at the start, in the middle and at the end."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as stream:
        for place in (0, size // 2, max(0, size - SAMPLE_BYTES)):
            stream.seek(place)
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.digest()


def _content(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
