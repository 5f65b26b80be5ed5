"""Files that are either whole or absent: temporary name on the same file system, fsync, rename."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HASH_BLOCK_BYTES = 1 << 20
SYNCS_AT_ONCE = 16  # the file system answers them together


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; fsync and rename it on success, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def fsync(path: Path) -> None:
    """Make the content of a file, or the renames inside a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write many small files, each atomically; synced at once: far faster than in turn."""
    for folder in {path.parent for path in files}:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        for path, data in files.items():
            _temporary(path).write_bytes(data)
        with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
            list(pool.map(fsync, map(_temporary, files)))
        for path in files:
            _temporary(path).replace(path)
        for folder in {path.parent for path in files}:
            fsync(folder)
    finally:
        for path in files:
            _temporary(path).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write ``value`` as JSON, atomically; key order is the caller's: same value, same bytes."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def files_sha256(paths: Sequence[Path], root: Path) -> str:
    """Return the hex sha256 over names relative to ``root`` and contents, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root)}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def json_sha256(value: Any) -> str:
    """Return the hex sha256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
