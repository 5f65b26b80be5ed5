"""The index of one split: its shards, statistics, classes, and how much of the list is there."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_src.atomic import write_json
from pipeline_src.config.data import AudioConfig, MediaConfig
from pipeline_src.errors import StageError
from pipeline_src.ledger import FLAGS
from pipeline_src.manifest.chunks import BulkFile, ChunkManifest, bulk_path, read_chunk
from pipeline_src.manifest.datasets import load_classes, load_dataset
from pipeline_src.manifest.galleries import load_gallery
from pipeline_src.shards.moments import Moments


def write_index(
    *,
    shard_manifests: Sequence[Path],
    train_manifests: Sequence[Path],
    index_path: Path,
    dataset_path: Path,
    split: str,
    max_failed_fraction: float,
    audio: AudioConfig,
    media: MediaConfig,
    version: int,
) -> None:
    """Check the shards of a split and write its index.

    Args:
        shard_manifests: of this split, in chunk order.
        train_manifests: of the train split, whose log-mel statistics hold for all splits; empty
            where the data set has none: then ``logmel_stats_split`` names this split.
        dataset_path: the data set's YAML.
        max_failed_fraction: share of the list's clips that may be lost.
    Raises:
        StageError: too many clips are lost, none is left, or a shard was made with other settings.
        ManifestError: a shard is missing or has not its bytes.
    """
    dataset = load_dataset(dataset_path)
    manifests = [read_chunk(path, "pack") for path in shard_manifests]
    shards = [
        _shard(path, manifest) for path, manifest in zip(shard_manifests, manifests, strict=True)
    ]
    settings = _check_settings(manifests, shard_manifests, audio, media)
    reasons = Counter(item["reason"] for manifest in manifests for item in manifest.lost)
    num_in_list = sum(manifest.num_in for manifest in manifests)
    _check_losses(f"{dataset.name}/{split}", num_in_list, reasons, max_failed_fraction)
    clip_ids = sorted(clip["clip_id"] for manifest in manifests for clip in manifest.clips)
    flags = Counter(
        flag for manifest in manifests for clip in manifest.clips for flag in clip["flags"]
    )
    moments, stats_split = _statistics(manifests, train_manifests, split)
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
        "class_names": list(load_classes(dataset).names),
        "num_clips": len(clip_ids),
        "num_clips_in_list": num_in_list,
        "clip_ids_sha256": hashlib.sha256("\n".join(clip_ids).encode()).hexdigest(),
        "logmel_mean": moments.mean,
        "logmel_std": moments.std,
        "logmel_stats_split": stats_split,
        **settings,
        "audio": audio.model_dump(),
        "reasons": dict(sorted(reasons.items())),
        "flags": {flag: flags[flag] for flag in FLAGS},
        "shards": shards,
    }
    write_json(index_path, index)


def _shard(manifest_path: Path, manifest: ChunkManifest) -> dict[str, Any]:
    path = bulk_path(manifest_path, manifest)
    bulk = manifest.tar
    assert isinstance(bulk, BulkFile)  # bulk_path has checked it
    return {
        "file": path.name,
        "manifest": manifest_path.name,
        "num_samples": len(manifest.clips),
        "bytes": bulk.bytes,
        "sha256": bulk.sha256,
    }


def _check_losses(
    name: str, num_in_list: int, reasons: Counter[str], max_failed_fraction: float
) -> None:
    num_lost = reasons.total()
    if num_lost < num_in_list and num_lost <= max_failed_fraction * num_in_list:
        return
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    raise StageError(
        f"{name}: {num_lost} of {num_in_list} clips lost: {listed} "
        f"(allowed by shards.max_failed_fraction: {max_failed_fraction * 100:g} %). The ledgers "
        "beside the manifests name each clip; once the source is repaired, run again with "
        "--forcerun download_clips"
    )


def _statistics(
    manifests: Sequence[ChunkManifest], train_manifests: Sequence[Path], split: str
) -> tuple[Moments, str]:
    """Log-mel moments over all bins of the train split, and the split they are of."""
    used, stats_split = manifests, split
    if train_manifests:
        used, stats_split = [read_chunk(path, "pack") for path in train_manifests], "train"
    moments = Moments()
    for manifest in used:
        moments = moments.merge(Moments(**manifest.extra["logmel"]))
    if not moments.count or moments.m2 <= 0:
        raise StageError(
            f"log-mel statistics of split {stats_split}: no clip, or all values are equal"
        )
    return moments, stats_split


def _check_settings(
    manifests: Sequence[ChunkManifest],
    paths: Sequence[Path],
    audio: AudioConfig,
    media: MediaConfig,
) -> dict[str, Any]:
    """What readers of the shards must know; every shard was made with it."""
    expected = {
        "sample_rate_hz": media.sample_rate_hz,
        "num_frames": media.num_frames,
        "frame_rate": media.frame_rate,
        "frame_size": media.frame_size,
        "num_mel_bins": audio.num_mel_bins,
        "hop_length_ms": audio.hop_length_ms,
    }
    for manifest, path in zip(manifests, paths, strict=True):
        if manifest.settings != expected:
            raise StageError(
                f"{path}: made with {manifest.settings}, not {expected}; delete it and run again"
            )
    return expected
