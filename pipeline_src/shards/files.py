"""The tars that a pack manifest names, and where each sample lies in them.

``<split>-<chunk>.tar`` is the first; ``<split>-<chunk>_001.tar`` and so on follow where a chunk
holds more than ``shards.target_bytes``. Names sort in the order of the clips.
"""

import re
from pathlib import Path
from typing import NamedTuple

from pipeline_src.errors import ManifestError, shown
from pipeline_src.manifest.chunks import ChunkManifest

INDEX_FILE = "index.json"  # of a split
SHARDS, SAMPLES = "shards", "samples"  # in a pack manifest
CHUNK_OF_SHARD = re.compile(r"-(\d{5})(?:_\d{3})?\.tar$")
SHARD_NAME = re.compile(r"[A-Za-z0-9_-]+\.tar")


class RemoteShard(NamedTuple):
    """A tar at a URL; the sha256 is its manifest's, empty = unknown."""

    url: str
    bytes: int
    sha256: str = ""

    def __str__(self) -> str:
        return self.url


class ShardFile(NamedTuple):
    """One tar, named relative to its manifest's folder, and how many samples it holds."""

    file: str
    num_samples: int
    bytes: int
    sha256: str


def remedy(shard: "Path | RemoteShard") -> str:
    """Say what to do about a damaged or missing shard: which manifest to delete."""
    if isinstance(shard, RemoteShard):
        return "pack it again where it comes from"
    chunk = CHUNK_OF_SHARD.search(shard.name)
    manifest = shard.with_name(f"{chunk[1]}.json") if chunk else "its manifest"
    return f"delete {manifest} and run again"


class Span(NamedTuple):
    """Where the members of one sample lie in their tar, and the CRC-32 of those bytes."""

    offset_bytes: int
    size_bytes: int
    crc32: int


def shard_files(manifest: ChunkManifest) -> list[ShardFile]:
    """Return the tars that a pack manifest names.

    Raises:
        ManifestError: it was made by an older version, or names files elsewhere.
    """
    if SHARDS not in manifest.extra or SAMPLES not in manifest.extra:
        raise ManifestError(
            f"{manifest.id}: the pack manifest names no shards; delete it and run again"
        )
    shards = [ShardFile(**shard) for shard in manifest.extra[SHARDS]]
    for shard in shards:
        if not SHARD_NAME.fullmatch(shard.file):
            raise ManifestError(
                f"{manifest.id}: {shown(shard.file)} is no shard's name; delete the pack manifest "
                "and run again"
            )
    return shards


def shard_paths(
    manifest_path: Path, manifest: ChunkManifest, folder: Path | None = None
) -> list[Path]:
    """Return the tars of a pack manifest after checking that they have their recorded sizes.

    Args:
        folder: where they lie; None = beside the manifest.

    Raises:
        ManifestError: one is missing or has another size.
    """
    paths = []
    for shard in shard_files(manifest):
        path = (folder or manifest_path.parent) / shard.file
        actual_bytes = path.stat().st_size if path.is_file() else -1
        if actual_bytes != shard.bytes:
            raise ManifestError(
                f"{path}: {'missing' if actual_bytes < 0 else f'{actual_bytes} bytes'}, but "
                f"{manifest_path.name} says {shard.bytes}; delete the manifest and run again"
            )
        paths.append(path)
    return paths
