"""Shards for reading: which samples there are, and where each lies."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline_src.config.data import RemoteConfig
from pipeline_src.errors import ManifestError, shown
from pipeline_src.manifest.chunks import ChunkManifest, read_chunk
from pipeline_src.manifest.schema import INDEX, check_json, read_json
from pipeline_src.modalities import LabelKind
from pipeline_src.shards.duplicates import DUPLICATE
from pipeline_src.shards.files import SAMPLES, RemoteShard, remedy, shard_files, shard_paths
from pipeline_src.shards.samples import Sample, SampleTable

MAX_SAMPLE_BYTES = 2**31 - 2**12  # the most that one read gives
BASE_URL = "base_url"  # of an index that was fetched
REQUIRED_KEYS = {
    *("shards", "num_clips", "class_names", "task", "modalities", "audio", "sample_rate_hz"),
    *("num_mel_bins", "logmel_mean", "logmel_std", "duplicates", "excludes_duplicates"),
}


@dataclass(frozen=True)
class ShardSet:
    """The samples of one or several splits, in list order.

    Args:
        logmel_mean, logmel_std: of the training clips' log-mel, in nats.
        modalities: what every sample has; frames only with "video".
        remote: how shards at URLs are read.
        front_end: how the log-mel was computed: the section ``audio``, and sample_rate_hz.
    """

    samples: Sequence[Sample]
    task: LabelKind
    class_names: tuple[str, ...]
    num_mel_bins: int
    logmel_mean: float
    logmel_std: float
    modalities: tuple[str, ...] = ("audio", "video")
    front_end: Mapping[str, Any] = field(default_factory=dict)
    remote: RemoteConfig = field(default_factory=RemoteConfig)

    def __len__(self) -> int:
        return len(self.samples)

    def subset(self, indices: Sequence[int]) -> "ShardSet":
        """Return the samples at ``indices``, in that order."""
        return replace(self, samples=SampleTable(self.samples[index] for index in indices))


def open_shards(index_paths: Sequence[Path], remote: RemoteConfig | None = None) -> ShardSet:
    """Read the indexes of one or several splits and check that every local shard has its bytes.

    Several data sets: the statistics are those of all clips together, and classes of different
    lists stand side by side (labels are shifted).

    Raises:
        ManifestError: an index or a shard is missing or damaged, or what their log-mel is or the
            modalities differ.
    """
    parts = [_open_split(path, remote or RemoteConfig()) for path in index_paths]
    first = parts[0]
    if len(parts) == 1:
        return first
    for key in ("num_mel_bins", "modalities", "front_end"):
        values = [getattr(part, key) for part in parts]
        if any(value != values[0] for value in values):
            pairs = zip(index_paths, values, strict=True)
            listed = ", ".join(f"{path}: {value}" for path, value in pairs)
            raise ManifestError(
                f"{key} must be equal to be read together: {listed}; pack them with the same "
                "settings, or leave one out"
            )
    mean, std = _pool([(len(part), part.logmel_mean, part.logmel_std) for part in parts])
    is_one_list = all(
        (part.class_names, part.task) == (first.class_names, first.task) for part in parts
    )
    names = (
        first.class_names if is_one_list else tuple(n for part in parts for n in part.class_names)
    )
    return replace(
        first,
        samples=SampleTable(_joined(parts, shifts_labels=not is_one_list)),
        task=first.task if is_one_list else "multilabel",
        class_names=names,
        logmel_mean=mean,
        logmel_std=std,
    )


def _joined(parts: Sequence[ShardSet], *, shifts_labels: bool) -> Iterator[Sample]:
    """Yield the samples of all parts, their labels behind the classes of those before."""
    shift = 0
    for part in parts:
        for sample in part.samples:
            yield sample._replace(labels=tuple(label + shift for label in sample.labels))
        shift += len(part.class_names) if shifts_labels else 0


def _pool(parts: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    """Pool (clips, mean, std) into one mean and std, each clip with the same weight."""
    total = sum(count for count, _, _ in parts)
    mean = sum(count * part_mean for count, part_mean, _ in parts) / total
    square = (
        sum(count * (std**2 + (part_mean - mean) ** 2) for count, part_mean, std in parts) / total
    )
    return mean, math.sqrt(square)


def _open_split(index_path: Path, remote: RemoteConfig) -> ShardSet:
    index = read_index(index_path)
    samples = SampleTable(_split_samples(index_path, index))
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
        {**index["audio"], "sample_rate_hz": index["sample_rate_hz"]},
        remote,
    )


def _split_samples(index_path: Path, index: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield the samples of a split that its readers see.

    Raises:
        ManifestError: a manifest or a shard does not fit, or a clip has a class that is none.
    """
    hidden, base = excluded_ids(index), shards_base(index_path, index)
    num_classes = len(index["class_names"])
    for path, manifest in chunk_manifests(index_path, index).items():
        for sample in _checked_samples(path, manifest, base):
            if sample.clip_id in hidden:
                continue
            if max(sample.labels, default=0) >= num_classes:
                raise ManifestError(
                    f"{index_path}: clip {shown(sample.clip_id)} has the classes "
                    f"{shown(sample.labels)} of {num_classes}; delete it and run again"
                )
            yield sample


def read_index(index_path: Path) -> dict[str, Any]:
    """Read index.json of a split.

    Raises:
        ManifestError: unreadable, or of an older version.
    """
    return check_index(read_json(index_path, "index"), index_path)


def check_index(index: Any, where: Path | str) -> dict[str, Any]:
    """Return an index that has every key that readers need.

    Raises:
        ManifestError: a key is missing, or a value is of another kind.
    """
    missing = REQUIRED_KEYS - (index.keys() if isinstance(index, dict) else set())
    if missing:
        raise ManifestError(
            f"{where}: no index of this version ({', '.join(sorted(missing))} missing); "
            "delete it and run again where it was packed"
        )
    check_json(INDEX, index, where, "index")
    return index


def chunk_manifests(index_path: Path, index: Mapping[str, Any]) -> dict[Path, ChunkManifest]:
    """Read the manifests of the chunks that an index lists, in its order."""
    names = dict.fromkeys(shard["manifest"] for shard in index["shards"])
    return {path: read_chunk(path, "pack") for path in (index_path.parent / name for name in names)}


def shards_base(index_path: Path, index: Mapping[str, Any]) -> Path | str:
    """Return the folder or URL that the shards of an index lie in."""
    base = index.get(BASE_URL, "")
    if not base:
        return index_path.parent
    return base if "://" in base else Path(base)


def _checked_samples(
    manifest_path: Path, manifest: ChunkManifest, base: Path | str
) -> Iterator[Sample]:
    if isinstance(base, Path):
        shard_paths(manifest_path, manifest, base)
    return chunk_samples(base, manifest)


def chunk_samples(base: Path | str, manifest: ChunkManifest) -> Iterator[Sample]:
    """Yield the samples of a chunk's shards in a folder or below a URL, duplicates too.

    Raises:
        ManifestError: shards and samples of the manifest do not fit together.
    """
    shards = shard_files(manifest)
    rows = manifest.extra[SAMPLES]
    if sum(shard.num_samples for shard in shards) != len(rows):
        raise ManifestError(
            f"{manifest.id}: the pack manifest's shards hold other samples than it lists; delete "
            "it and run again"
        )
    rest = iter(rows)
    for shard in shards:
        place: Path | RemoteShard = (
            base / shard.file
            if isinstance(base, Path)
            else RemoteShard(f"{base}/{shard.file}", shard.bytes, shard.sha256)
        )
        for key, labels, clip_id, offset, size, crc32 in islice(rest, shard.num_samples):
            if offset + size > shard.bytes or not 0 < size <= MAX_SAMPLE_BYTES:
                raise ManifestError(
                    f"{place}: clip {shown(clip_id)} lies at {offset} with {size} bytes, the shard "
                    f"has {shard.bytes}; {remedy(place)}"
                )
            yield Sample(place, key, offset, size, tuple(labels), clip_id, crc32)


def excluded_ids(index: Mapping[str, Any]) -> set[str]:
    """Return the ids of packed clips that readers of an index do not see."""
    return {one[0] for one in index["duplicates"]} if index["excludes_duplicates"] else set()


def dropped_clips(index_path: Path) -> dict[str, str]:
    """Map clip_id to reason for the clips of a split's list that its readers do not see."""
    index = read_index(index_path)
    dropped = [item for one in chunk_manifests(index_path, index).values() for item in one.dropped]
    reasons = {item["clip_id"]: item["reason"] for item in dropped}
    return reasons | dict.fromkeys(excluded_ids(index), DUPLICATE)
