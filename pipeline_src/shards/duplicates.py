"""Clips of a data set with the same content: the same sound and the same frames.

Compared are the bytes that transcoding stored, which follow from the decoded samples and pictures
alone. A copy that somebody encoded again is not found. A chunk does not know the others, so equal
content is found where a split is indexed, and no shard is packed again for it.

Clips that differ may be cut from one recording that is listed in two splits, under two names or two
spellings of one. Such clips are counted by the checksum of the file that was fetched.

The first clip of each content stands for it. Where duplicates are left out, splits are looked
through in the order test, val, train: of a clip that is in train and in test it is train that goes
without, which keeps what is scored comparable. Where they are only counted, clips of val and test
are compared with train and with their own split. Folds are looked through in their order.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pipeline_src.manifest.chunks import ChunkManifest, Clip

CONTENT = "content"  # of a clip in a pack manifest
FILE = "file_sha256"  # of the recording that it is cut from
DUPLICATE = "duplicate"  # a flag where such clips stay, a reason where they are left out
HASH_CHARS = 32  # 128 bits: no collision among any number of clips that one could store
DERIVED = ("logmel.npy", "json")


class Duplicate(NamedTuple):
    """A clip, and the earlier one that has the same content."""

    clip_id: str
    of_split: str
    of_clip_id: str


def content_hash(members: Mapping[str, bytes]) -> str:
    """Hash the sound and the frames among the members of a sample."""
    digest = hashlib.sha256()
    for name in sorted(set(members) - set(DERIVED)):
        digest.update(f"{name}:{len(members[name])}:".encode())
        digest.update(members[name])
    return digest.hexdigest()[:HASH_CHARS]


class ContentTable:
    """The first clip of each content, in the order in which chunks are added."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, str]] = {}
        self._files: dict[str, set[bytes]] = {}

    def add_all(self, chunks: Iterable[ChunkManifest]) -> None:
        """Add the clips of earlier splits."""
        for chunk in chunks:
            files = self._files.setdefault(chunk.id.split, set())
            files.update(_file_of(clip) for clip in chunk.clips)
            for _ in self.add(chunk):
                pass

    def shared_files(self, chunk: ChunkManifest) -> Iterator[str]:
        """Yield the earlier split of each clip whose recording has clips there too."""
        for clip in chunk.clips:
            yield from (split for split, files in self._files.items() if _file_of(clip) in files)

    def add(self, chunk: ChunkManifest) -> Iterator[Duplicate]:
        """Add the clips of a chunk and yield those that an earlier clip equals."""
        for clip in chunk.clips:
            own = (chunk.id.split, clip["clip_id"])
            first = self._first.setdefault(clip[CONTENT], own)
            if first != own:
                yield Duplicate(clip["clip_id"], *first)


def _file_of(clip: Clip) -> bytes:
    return bytes.fromhex(clip[FILE][:HASH_CHARS])
