"""Transcode one chunk: raw files -> a tar of FLAC and JPEG members, a manifest and a ledger."""

import collections
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError
from pipeline_src.ledger import LedgerRow, describe_losses
from pipeline_src.manifest.chunks import (
    ChunkManifest,
    Clip,
    describe_bulk,
    merge_rows,
    read_chunk,
    write_chunk,
)
from pipeline_src.manifest.progress import Progress
from pipeline_src.manifest.tars import TarBuilder, build_tar
from pipeline_src.media.batch import Decoded, decode_batch, make_batches
from pipeline_src.media.flags import SHORT_TOLERANCE_SECONDS
from pipeline_src.media.graph import ClipJob, frame_seconds
from pipeline_src.media.probe import Probe, probe_file

LOGGER = logging.getLogger(__name__)
BATCHES_AHEAD = 2
MIN_FRAME_DIGITS = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def transcode_chunk(
    *,
    download_manifest: Path,
    manifest_path: Path,
    ledger_path: Path,
    media: MediaConfig,
    num_workers: int,
    version: int,
) -> None:
    """Decode every downloaded clip of a chunk once; a clip that fails is a row with a reason.

    Args:
        num_workers: ffmpeg processes at a time, one thread each.
    Raises:
        StageError: no ffmpeg, or the disk is full.
    """
    source = read_chunk(download_manifest, "download")
    tar_path = manifest_path.with_suffix(".tar")
    rows: list[LedgerRow] = []
    clips: list[Clip] = []
    with ThreadPoolExecutor(num_workers) as pool, build_tar(tar_path) as tar:
        for clip, probe, result in _decode_all(pool, source.clips, download_manifest.parent, media):
            row, entry = _judge(clip, probe, result, media)
            rows.append(row)
            if entry is not None and isinstance(result, Decoded):
                clips.append(entry)
                _add_members(tar, clip["key"], result)
    all_rows, lost = merge_rows([clip["clip_id"] for clip in source.clips], source.lost, rows)
    manifest = ChunkManifest(
        stage="transcode",
        id=source.id,
        version=version,
        num_in=source.num_in,
        tar=describe_bulk(tar_path),
        settings=media.model_dump(include={"sample_rate_hz", "num_frames", "frame_size"}),
        clips=clips,
        lost=lost,
    )
    write_chunk(manifest_path, ledger_path, manifest, all_rows)
    LOGGER.info("transcode %s: %s", source.id, describe_losses(all_rows))


def _decode_all(
    pool: ThreadPoolExecutor, clips: list[Clip], folder: Path, media: MediaConfig
) -> Iterator[tuple[Clip, Probe | None, Decoded | MediaError]]:
    """Probe all clips, decode the usable ones in batches, and yield all in list order."""
    prepared = list(pool.map(lambda clip: _prepare(clip, folder, media), clips))
    jobs = [plan[0] for plan in prepared if not isinstance(plan, MediaError)]
    batches = make_batches(jobs, media.clips_per_process)
    decoded = _map_in_order(pool, lambda batch: decode_batch(batch, media), batches)
    results = (result for batch in decoded for result in batch)
    progress = Progress("transcode", len(clips))
    for clip, plan in zip(clips, prepared, strict=True):
        if isinstance(plan, MediaError):
            yield clip, None, plan
        else:
            yield clip, plan[1], next(results)
        progress.update()


def _map_in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """``pool.map`` that runs only a few items ahead, so that results do not pile up in memory."""
    pending: collections.deque[Future[Result]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > BATCHES_AHEAD * pool._max_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _prepare(clip: Clip, folder: Path, media: MediaConfig) -> tuple[ClipJob, Probe] | MediaError:
    """Decide from the container what to decode, or why not."""
    path = folder / clip["path"]
    try:
        probe = probe_file(path)
        start = clip["start_seconds"] or 0.0
        end = probe.duration_seconds
        if clip["end_seconds"] is not None:
            end = min(end, clip["end_seconds"])
        duration = end - start
        if duration < media.min_seconds:
            raise MediaError(
                "too_short", f"{max(duration, 0):g} s; media.min_seconds={media.min_seconds:g}"
            )
        if duration > media.max_seconds:
            raise MediaError(
                "unsupported", f"{duration:g} s; media.max_seconds={media.max_seconds:g}"
            )
    except MediaError as error:
        return error
    return ClipJob(path, start, duration, probe.audio_index, probe.video_index), probe


def _judge(
    clip: Clip, probe: Probe | None, result: Decoded | MediaError, media: MediaConfig
) -> tuple[LedgerRow, Clip | None]:
    """The ledger row of a clip, and its manifest entry where it is fine."""
    clip_id = clip["clip_id"]
    if isinstance(result, MediaError) or probe is None:
        assert isinstance(result, MediaError)
        return LedgerRow(clip_id, "failed", result.reason, detail=result.detail), None
    start = clip["start_seconds"] or 0.0
    end = clip["end_seconds"] if clip["end_seconds"] is not None else probe.duration_seconds
    duration = min(end, probe.duration_seconds) - start
    audio_seconds = result.num_samples / media.sample_rate_hz
    if audio_seconds < media.min_seconds:
        detail = f"{audio_seconds:g} s of audio; media.min_seconds={media.min_seconds:g}"
        return LedgerRow(clip_id, "failed", "too_short", detail=detail), None
    marks = {
        "silent_audio": result.is_silent,
        "static_video": result.is_static,
        "short": min(duration, audio_seconds) < end - start - SHORT_TOLERANCE_SECONDS,
    }
    flags = [flag for flag, is_set in marks.items() if is_set]
    entry = {key: clip[key] for key in ("clip_id", "key", "labels", "source")} | {
        "start_seconds": start,
        "end_seconds": round(start + duration, 6),
        "duration_seconds": round(duration, 6),
        "fps": round(probe.fps, 6),
        "frame_seconds": frame_seconds(duration, media.num_frames),
        "num_samples": result.num_samples,
        "audio_codec": probe.audio_codec,
        "video_codec": probe.video_codec,
        "flags": flags,
    }
    return LedgerRow(clip_id, "ok", flags=";".join(flags)), entry


def _add_members(tar: TarBuilder, key: str, decoded: Decoded) -> None:
    tar.add(f"{key}.flac", decoded.flac)
    digits = max(MIN_FRAME_DIGITS, len(str(len(decoded.frames) - 1)))
    for number, frame in enumerate(decoded.frames):
        tar.add(f"{key}.frame_{number:0{digits}d}.jpg", frame)
