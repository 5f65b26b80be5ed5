"""Pack one chunk into one shard: log-mel, frames and (optionally) waveform of every clip."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from webdataset.writer import TarWriter

from pipeline_src.atomic import atomic_path
from pipeline_src.config.data import ShardsConfig
from pipeline_src.errors import ManifestError
from pipeline_src.ledger import LedgerRow, describe_losses
from pipeline_src.manifest.chunks import (
    ChunkManifest,
    Clip,
    bulk_path,
    describe_bulk,
    merge_rows,
    read_chunk,
    write_chunk,
)
from pipeline_src.manifest.origin import chunk_origin
from pipeline_src.manifest.progress import Progress
from pipeline_src.manifest.tars import read_samples, remove_leftovers
from pipeline_src.shards.moments import Moments, moments_of

LOGGER = logging.getLogger(__name__)
OWNER = "root"
JSON_KEYS = (
    "clip_id",
    "labels",
    "start_seconds",
    "end_seconds",
    "duration_seconds",
    "fps",
    "frame_seconds",
    "flags",
    "source",
)
# Only where the media stage has something to say.
OPTIONAL_JSON_KEYS = ("num_decode_errors",)
REASON_OF_FLAG = {
    "silent_audio": "no_audio",
    "static_video": "no_video",
    "short": "too_short",
    "decode_errors": "corrupt",
}

Members = dict[str, bytes]


def pack_chunk(
    *,
    logmel_manifest: Path,
    transcode_manifest: Path,
    manifest_path: Path,
    ledger_path: Path,
    shard_path: Path,
    shards: ShardsConfig,
    version: int,
) -> None:
    """Write the shard of a chunk with its manifest and ledger; same input, same bytes.

    Clips with a flag of ``shards.exclude_flags`` stay out; their reason is the flag's nearest.
    """
    logmel = read_chunk(logmel_manifest, "logmel")
    rows = [_judge(clip, shards) for clip in logmel.clips]
    kept = [clip for clip, row in zip(logmel.clips, rows, strict=True) if row.status == "ok"]
    transcode = read_chunk(transcode_manifest, "transcode")
    paths = bulk_path(transcode_manifest, transcode), bulk_path(logmel_manifest, logmel)
    samples, moments = _write_shard(shard_path, kept, _join(kept, *paths), shards)
    all_rows, lost = merge_rows([clip["clip_id"] for clip in logmel.clips], logmel.lost, rows)
    manifest = ChunkManifest(
        stage="pack",
        id=logmel.id,
        version=version,
        num_in=logmel.num_in,
        tar=describe_bulk(shard_path),
        settings=logmel.settings,
        clips=[{key: clip[key] for key in ("clip_id", "key", "labels", "flags")} for clip in kept],
        lost=lost,
        origin=chunk_origin([logmel_manifest, transcode_manifest], version, shards=shards),
        extra={"samples": samples, "logmel": asdict(moments)},
    )
    write_chunk(manifest_path, ledger_path, manifest, all_rows)
    LOGGER.info("pack %s: %s", logmel.id, describe_losses(all_rows))


def _judge(clip: Clip, shards: ShardsConfig) -> LedgerRow:
    flags = ";".join(clip["flags"])
    excluded = [flag for flag in shards.exclude_flags if flag in clip["flags"]]
    if excluded:
        detail = f"shards.exclude_flags has {excluded[0]}"
        return LedgerRow(clip["clip_id"], "failed", REASON_OF_FLAG[excluded[0]], 1, flags, detail)
    return LedgerRow(clip["clip_id"], "ok", flags=flags)


def _sidecar(clip: Clip) -> dict[str, Any]:
    present = [key for key in OPTIONAL_JSON_KEYS if key in clip]
    return {key: clip[key] for key in (*JSON_KEYS, *present)}


def _join(clips: list[Clip], media_tar: Path, logmel_tar: Path) -> Iterator[tuple[Clip, Members]]:
    """Yield each clip with its members of both tars; both are in list order: one pass is enough."""
    media, logmel = read_samples(media_tar), read_samples(logmel_tar)
    for clip in clips:
        members: Members = {}
        for path, samples in ((media_tar, media), (logmel_tar, logmel)):
            found = next((members for key, members in samples if key == clip["key"]), None)
            if found is None:
                raise ManifestError(
                    f"{path}: no members of {clip['key']!r}; delete its manifest, run again"
                )
            members |= found
        yield clip, members


def _write_shard(
    path: Path, clips: list[Clip], joined: Iterator[tuple[Clip, Members]], shards: ShardsConfig
) -> tuple[list[list[Any]], Moments]:
    """Write the tar; return (key, offset, size, labels, clip_id) per sample, and moments."""
    samples: list[list[Any]] = []
    moments = Moments()
    progress = Progress("pack", len(clips))
    remove_leftovers(path)
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as stream,
        TarWriter(stream, user=OWNER, group=OWNER, mtime=0, encoder=False) as tar,
    ):
        for clip, members in joined:
            moments = moments.merge(
                moments_of(np.load(io.BytesIO(members["logmel.npy"]), allow_pickle=False))
            )
            if not shards.waveform:
                del members["flac"]
            metadata = json.dumps(_sidecar(clip)).encode()
            offset_bytes = tar.tarstream.offset
            tar.write({"__key__": clip["key"], "json": metadata, **members})
            size_bytes = tar.tarstream.offset - offset_bytes
            samples.append([clip["key"], offset_bytes, size_bytes, clip["labels"], clip["clip_id"]])
            progress.update()
    return samples, moments
