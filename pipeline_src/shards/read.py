"""Shards for reading: which samples there are; one read per sample, headers parsed in memory."""

import json
import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline_src.errors import ManifestError
from pipeline_src.manifest.chunks import bulk_path, read_chunk

MAX_OPEN_SHARDS = 256
BLOCK_BYTES = 512
NAME = slice(0, 100)
SIZE = slice(124, 136)
CHECKSUM = slice(148, 156)
TYPE = slice(156, 157)
REGULAR, PAX_HEADER = b"0", b"x"
PAX_PATH = b" path="


class Sample(NamedTuple):
    """Where one clip lies, and its class indices.

    Args:
        offset_bytes, size_bytes: all its members in the shard, one after the other.
    """

    shard: Path
    key: str
    offset_bytes: int
    size_bytes: int
    labels: tuple[int, ...]
    clip_id: str


@dataclass(frozen=True)
class ShardSet:
    """The samples of one or several splits, in list order.

    Args:
        logmel_mean, logmel_std: of the training clips' log-mel, in nats.
        modalities: what every sample has; frames only with "video".
    """

    samples: Sequence[Sample]
    task: Literal["multiclass", "multilabel"]
    class_names: tuple[str, ...]
    num_mel_bins: int
    logmel_mean: float
    logmel_std: float
    modalities: tuple[str, ...] = ("audio", "video")

    def __len__(self) -> int:
        return len(self.samples)

    def subset(self, indices: Sequence[int]) -> "ShardSet":
        """The samples at ``indices``, in that order."""
        return replace(self, samples=[self.samples[index] for index in indices])


def open_shards(index_paths: Sequence[Path]) -> ShardSet:
    """Read the indexes of one or several splits and check that every shard has its bytes.

    Several data sets: the statistics are those of all clips together, and classes of different
    lists stand side by side (labels are shifted).

    Raises:
        ManifestError: an index or a shard is missing or damaged, or the numbers of mel bins or the
            modalities differ.
    """
    parts = [_open_split(path) for path in index_paths]
    first = parts[0]
    if len(parts) == 1:
        return first
    for key in ("num_mel_bins", "modalities"):
        values = [getattr(part, key) for part in parts]
        if len(set(values)) > 1:
            pairs = zip(index_paths, values, strict=True)
            listed = ", ".join(f"{path}: {value}" for path, value in pairs)
            raise ManifestError(f"{key} must be equal to be read together: {listed}")
    mean, std = _pool([(len(part), part.logmel_mean, part.logmel_std) for part in parts])
    is_one_list = all(
        (part.class_names, part.task) == (first.class_names, first.task) for part in parts
    )
    samples: list[Sample] = []
    names: tuple[str, ...] = ()
    for part in parts:
        shift = 0 if is_one_list else len(names)
        samples += [
            sample._replace(labels=tuple(x + shift for x in sample.labels))
            for sample in part.samples
        ]
        names = part.class_names if is_one_list else names + part.class_names
    task = first.task if is_one_list else "multilabel"
    return ShardSet(samples, task, names, first.num_mel_bins, mean, std, first.modalities)


def _pool(parts: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    """Mean and std of (clips, mean, std) taken together, each clip with the same weight."""
    total = sum(count for count, _, _ in parts)
    mean = sum(count * part_mean for count, part_mean, _ in parts) / total
    square = (
        sum(count * (std**2 + (part_mean - mean) ** 2) for count, part_mean, std in parts) / total
    )
    return mean, math.sqrt(square)


def _open_split(index_path: Path) -> ShardSet:
    try:
        index: dict[str, Any] = json.loads(index_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{index_path}: index not readable: {error}") from error
    samples: list[Sample] = []
    for shard in index["shards"]:
        manifest_path = index_path.parent / shard["manifest"]
        manifest = read_chunk(manifest_path, "pack")
        path = bulk_path(manifest_path, manifest)
        samples += [
            Sample(path, key, offset, size, tuple(labels), clip_id)
            for key, offset, size, labels, clip_id in manifest.extra["samples"]
        ]
    if len(samples) != index["num_clips"]:
        raise ManifestError(
            f"{index_path}: {index['num_clips']} clips, but the shards hold {len(samples)}; "
            "delete it and run again"
        )
    return ShardSet(
        samples,
        index["task"],
        tuple(index["class_names"]),
        index["num_mel_bins"],
        index["logmel_mean"],
        index["logmel_std"],
        tuple(index["modalities"]),
    )


def lost_clips(index_path: Path) -> dict[str, str]:
    """Reason by clip_id of the clips of a split's list that are not in its shards."""
    shards = json.loads(index_path.read_text(encoding="utf-8"))["shards"]
    manifests = [read_chunk(index_path.parent / shard["manifest"], "pack") for shard in shards]
    return {item["clip_id"]: item["reason"] for manifest in manifests for item in manifest.lost}


class ShardReader:
    """Read samples; shards open on first use and stay open. Safe to share, fork and pickle."""

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_descriptors": {}}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close all shards; the next read opens its shard again."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def read(self, sample: Sample, extensions: Collection[str] | None = None) -> dict[str, bytes]:
        """Return {extension: content} of a sample: ``logmel.npy``, ``frame_03.jpg``, ``json``, ...

        Args:
            extensions: only these; None = all.
        Raises:
            ManifestError: the shard is missing or damaged there, or lacks a wanted member.
        """
        data = os.pread(self._open(sample.shard), sample.size_bytes, sample.offset_bytes)
        if len(data) != sample.size_bytes:
            raise _damaged(sample, f"ends after {len(data)} of {sample.size_bytes} bytes")
        members = _parse(sample, data, extensions)
        missing = sorted(set(extensions or ()) - members.keys())
        if missing:
            raise _damaged(sample, f"has no member {', '.join(missing)}")
        return members

    def _open(self, path: Path) -> int:
        if path not in self._descriptors:
            if len(self._descriptors) >= MAX_OPEN_SHARDS:  # the oldest; far below ulimit -n
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            try:
                self._descriptors[path] = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise ManifestError(
                    f"{path}: shard is missing; delete its manifest and run again"
                ) from None
        return self._descriptors[path]


def _parse(sample: Sample, data: bytes, extensions: Collection[str] | None) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    position = 0
    long_name: str | None = None
    while position < len(data):
        header = data[position : position + BLOCK_BYTES]
        size = _check_header(sample, header)
        content = data[position + BLOCK_BYTES : position + BLOCK_BYTES + size]
        if len(content) != size:
            raise _damaged(sample, "member reaches over the sample's end")
        position += BLOCK_BYTES + -(-size // BLOCK_BYTES) * BLOCK_BYTES
        if header[TYPE] == PAX_HEADER:
            long_name = _pax_path(content)
            continue
        name = long_name or header[NAME].rstrip(b"\0").decode()
        long_name = None
        member_key, _, extension = name.partition(".")
        if member_key != sample.key or header[TYPE] != REGULAR:
            raise _damaged(sample, f"found member {name!r}")
        if extensions is None or extension in extensions:
            members[extension] = content
    return members


def _check_header(sample: Sample, header: bytes) -> int:
    """Verify the header's checksum (own field counted as blanks); return the member's size."""
    try:
        checksum = int(header[CHECKSUM].rstrip(b"\0 "), 8)
        size = int(header[SIZE].rstrip(b"\0 "), 8)
    except ValueError:
        raise _damaged(sample, "no tar header where one must be") from None
    if sum(header) - sum(header[CHECKSUM]) + 8 * ord(" ") != checksum:
        raise _damaged(sample, "tar header with a wrong checksum")
    return size


def _damaged(sample: Sample, what: str) -> ManifestError:
    return ManifestError(
        f"{sample.shard}: sample {sample.key!r} {what}: the shard is damaged; "
        "delete its manifest and run again"
    )


def _pax_path(content: bytes) -> str:
    """The member name in a PAX header, which tar writes for names over 100 bytes."""
    records = content.split(b"\n")
    return next(record.split(PAX_PATH, 1)[1].decode() for record in records if PAX_PATH in record)
