"""Pack one chunk into shards: log-mel, frames and (optionally) waveform of every clip."""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_src.config.data import ShardsConfig
from pipeline_src.errors import ManifestError
from pipeline_src.manifest.chunks import Clip, bulk_path, read_chunk
from pipeline_src.manifest.input_hash import hash_inputs
from pipeline_src.manifest.ledger import LedgerRow
from pipeline_src.manifest.stage import publish_chunk
from pipeline_src.manifest.tars import read_samples
from pipeline_src.shards.duplicates import CONTENT, FILE, content_hash
from pipeline_src.shards.files import SAMPLES, SHARDS
from pipeline_src.shards.running_stats import Moments, moments_of
from pipeline_src.shards.tars import ShardWriter
from pipeline_src.system.progress import ProgressLine

CLIP_KEYS = ("clip_id", "key", "labels", "flags", FILE)
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
OPTIONAL_JSON_KEYS = (
    "short_seconds",
    "gap_seconds",
    "num_repeated_frames",
    "num_decode_errors",
)
REASON_OF_FLAG = {
    "silent_audio": "no_audio",
    "static_video": "no_video",
    "short": "too_short",
    "gaps": "corrupt",
    "decode_errors": "corrupt",
    "other_sound": "no_audio",
    "bad_samples": "corrupt",
    "open_end": "too_short",
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
    """Write the shards of a chunk with its manifest and ledger; same input, same bytes.

    Clips with a flag of ``shards.exclude_flags`` stay out; their reason is the flag's nearest.

    Args:
        shard_path: of the first shard; see ``tars`` for the names of the others.
        shards: without what only the index depends on (``ShardsConfig.of_tars``).
    """
    logmel = read_chunk(logmel_manifest, "logmel")
    rows = [_judge(clip, shards) for clip in logmel.clips]
    kept = [clip for clip, row in zip(logmel.clips, rows, strict=True) if row.status == "ok"]
    transcode = read_chunk(transcode_manifest, "transcode")
    paths = bulk_path(transcode_manifest, transcode), bulk_path(logmel_manifest, logmel)
    writer, contents, moments = _write_tars(shard_path, kept, _join(kept, *paths), shards)
    publish_chunk(
        "pack",
        logmel,
        rows,
        [
            {**{key: clip[key] for key in CLIP_KEYS}, CONTENT: content}
            for clip, content in zip(kept, contents, strict=True)
        ],
        manifest_path=manifest_path,
        ledger_path=ledger_path,
        settings=logmel.settings,
        version=version,
        input_hash=hash_inputs([logmel_manifest, transcode_manifest], version, shards=shards),
        extra={
            SHARDS: [shard._asdict() for shard in writer.files],
            SAMPLES: [
                [clip["key"], clip["labels"], clip["clip_id"], *span]
                for clip, span in zip(kept, writer.spans, strict=True)
            ],
            "logmel": asdict(moments),
        },
    )


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
    """Yield each clip with its members of both tars; both are in list order: one pass is enough.

    Raises:
        ManifestError: a tar lacks the members of a clip.
    """
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


def _write_tars(
    path: Path, clips: list[Clip], joined: Iterator[tuple[Clip, Members]], shards: ShardsConfig
) -> tuple[ShardWriter, list[str], Moments]:
    """Write the tars; return the writer, the hash of each clip's content, and moments."""
    contents: list[str] = []
    moments = Moments()
    progress = ProgressLine(f"pack {path.stem}", len(clips))
    with progress, ShardWriter(path, shards.target_bytes) as writer:
        for clip, members in joined:
            moments = moments.merge(
                moments_of(np.load(io.BytesIO(members["logmel.npy"]), allow_pickle=False))
            )
            contents.append(content_hash(members))
            if not shards.waveform:
                del members["flac"]
            metadata = json.dumps(_sidecar(clip)).encode()
            writer.write(clip["key"], {"json": metadata, **members})
            progress.update()
    return writer, contents, moments
