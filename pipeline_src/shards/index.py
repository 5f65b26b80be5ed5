"""The index of one split: its shards, statistics, classes, and how much of the list is there."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline_src.config.data import AudioConfig, MediaConfig
from pipeline_src.datasets.classes import load_classes
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.datasets.retrieval_lists import load_gallery
from pipeline_src.errors import StageError
from pipeline_src.manifest.chunks import ChunkManifest, read_chunk
from pipeline_src.manifest.ledger import FLAGS
from pipeline_src.manifest.losses import first_loss
from pipeline_src.shards.duplicates import DUPLICATE, ContentTable, Duplicate
from pipeline_src.shards.files import shard_files, shard_paths
from pipeline_src.shards.running_stats import Moments
from pipeline_src.system.atomic import write_json

logger = logging.getLogger(__name__)


def write_index(
    *,
    shard_manifests: Sequence[Path],
    train_manifests: Sequence[Path],
    earlier_manifests: Sequence[Path],
    index_path: Path,
    dataset_path: Path,
    split: str,
    exclude_duplicates: bool,
    max_failed_fraction: float,
    audio: AudioConfig,
    media: MediaConfig,
    version: int,
    class_list: Path | None = None,
) -> None:
    """Check the shards of a split and write its index.

    Args:
        shard_manifests: of this split, in chunk order.
        train_manifests: of the train split, whose log-mel statistics hold for all splits; empty
            where the data set has none: then ``logmel_stats_split`` names this split.
        earlier_manifests: of the splits whose clips this split's may be duplicates of.
        dataset_path: the data set's YAML.
        exclude_duplicates: readers of the index see no duplicate; else it is only counted.
        max_failed_fraction: share of the list's clips that may be lost.
        class_list: where the classes lie; None = where the YAML says.
    Raises:
        StageError: too many clips are lost, none is left, or a shard was made with other settings.
        ManifestError: a shard is missing or has not its bytes.
    """
    dataset = load_dataset(dataset_path)
    settings = _settings(audio, media)
    contents = ContentTable()
    contents.add_all(read_chunk(path, "pack") for path in earlier_manifests)
    found = _Found(settings, exclude_duplicates)
    for path in shard_manifests:
        found.add(path, contents)
    _check_losses(f"{dataset.name}/{split}", found, max_failed_fraction, shard_manifests)
    if train_manifests and list(train_manifests) != list(shard_manifests):
        moments, stats_split = _packed_moments(train_manifests), "train"
    else:
        moments, stats_split = found.moments, split
    if not moments.count or moments.m2 <= 0:
        raise StageError(
            f"log-mel statistics of split {stats_split}: no clip, or all values are equal"
        )
    _report_duplicates(f"{dataset.name}/{split}", found)
    found.clip_ids.sort()
    index = {
        "version": version,
        "dataset": dataset.name,
        "split": split,
        "task": dataset.task,
        "collection": dataset.collection,
        "modalities": list(dataset.modalities),
        "retrieval_per_class": dataset.retrieval_per_class,
        "retrieval_size": dataset.retrieval_size,
        "retrieval_clips": load_gallery(dataset),
        "class_names": list(load_classes(dataset, class_list).names),
        "num_clips": len(found.clip_ids),
        "num_clips_in_list": found.num_in_list,
        "clip_ids_sha256": hashlib.sha256("\n".join(found.clip_ids).encode()).hexdigest(),
        "logmel_mean": moments.mean,
        "logmel_std": moments.std,
        "logmel_stats_split": stats_split,
        **settings,
        "audio": audio.model_dump(),
        "media": media.recipe_values(),
        "licence": dataset.licence,
        "reasons": dict(sorted(found.reasons.items())),
        "flags": {flag: found.flags[flag] for flag in FLAGS},
        "excludes_duplicates": exclude_duplicates,
        "duplicates": found.duplicates,
        "shared_files": dict(sorted(found.shared_files.items())),
        "shards": found.shards,
    }
    write_json(index_path, index)


@dataclass
class _Found:
    """What the chunks of a split hold together."""

    settings: dict[str, Any]
    exclude_duplicates: bool
    num_in_list: int = 0
    clip_ids: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    duplicates: list[Duplicate] = field(default_factory=list)
    shared_files: Counter[str] = field(default_factory=Counter)
    shards: list[dict[str, Any]] = field(default_factory=list)
    moments: Moments = field(default_factory=Moments)

    def add(self, path: Path, contents: ContentTable) -> None:
        """Add one chunk after checking its shards and settings.

        Raises:
            StageError: it was made with other settings. ManifestError: a shard is missing.
        """
        chunk = read_chunk(path, "pack")
        if chunk.settings != self.settings:
            raise StageError(
                f"{path}: made with {chunk.settings}, not {self.settings}; delete it and run again"
            )
        shard_paths(path, chunk)
        duplicates = list(contents.add(chunk))
        excluded_ids = {one.clip_id for one in duplicates} if self.exclude_duplicates else set()
        kept = [clip for clip in chunk.clips if clip["clip_id"] not in excluded_ids]
        self.num_in_list += chunk.num_in
        self.clip_ids += [clip["clip_id"] for clip in kept]
        self.reasons.update(item["reason"] for item in chunk.dropped)
        self.reasons.update([DUPLICATE] * len(excluded_ids))
        self.flags.update(flag for clip in kept for flag in clip["flags"])
        self.flags.update([DUPLICATE] * (len(duplicates) - len(excluded_ids)))
        self.duplicates += duplicates
        self.shared_files.update(contents.shared_files(chunk))
        self.moments = self.moments.merge(Moments(**chunk.extra["logmel"]))
        self.shards += _describe_shards(path, chunk)


def _describe_shards(manifest_path: Path, manifest: ChunkManifest) -> list[dict[str, Any]]:
    return [{"manifest": manifest_path.name, **one._asdict()} for one in shard_files(manifest)]


def _check_losses(
    name: str, found: _Found, max_failed_fraction: float, manifests: Sequence[Path]
) -> None:
    num_lost, num_in_list = found.reasons.total(), found.num_in_list
    if num_lost < num_in_list and num_lost <= max_failed_fraction * num_in_list:
        return
    listed = ", ".join(f"{reason} {count}" for reason, count in found.reasons.most_common())
    first = next(filter(None, map(first_loss, manifests)), "")
    if not first and found.reasons[DUPLICATE]:
        first = "a duplicate, index.json names it"
    raise StageError(
        f"{name}: {num_lost} of {num_in_list} clips lost: {listed} "
        f"(allowed by shards.max_failed_fraction: {max_failed_fraction * 100:g} %)"
        f"{first and '; the first: '}{first}. The ledgers name each clip; once the "
        "source is repaired, run again with --forcerun download_clips"
    )


def _report_duplicates(name: str, found: _Found) -> None:
    """Log how many clips have the content of another, and in which split that is."""
    for split, count in found.shared_files.items():
        logger.warning("%s: %d clips are cut from files that %s has clips of", name, count, split)
    if not found.duplicates:
        return
    counts = Counter(one.of_split for one in found.duplicates)
    listed = ", ".join(f"{count} of a clip in {split}" for split, count in counts.most_common())
    advice = "left out" if found.exclude_duplicates else "shards.exclude_flags can leave them out"
    logger.warning("%s: duplicates: %s; %s. index.json names them", name, listed, advice)


def _packed_moments(manifests: Sequence[Path]) -> Moments:
    """Merge the log-mel moments over all bins of these chunks, duplicates included."""
    moments = Moments()
    for path in manifests:
        moments = moments.merge(Moments(**read_chunk(path, "pack").extra["logmel"]))
    return moments


def _settings(audio: AudioConfig, media: MediaConfig) -> dict[str, Any]:
    """Return what readers of the shards must know; every shard is made with it."""
    return {
        "sample_rate_hz": media.sample_rate_hz,
        "num_frames": media.num_frames,
        "frame_rate": media.frame_rate,
        "frame_size": media.frame_size,
        "num_mel_bins": audio.num_mel_bins,
        "hop_length_ms": audio.hop_length_ms,
    }
