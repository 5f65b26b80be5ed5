"""Transcode one chunk: raw files -> a tar of FLAC and JPEG members, a manifest and a ledger."""

import collections
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError, StageError
from pipeline_src.ledger import LedgerRow, describe_losses
from pipeline_src.manifest.chunks import (
    ChunkManifest,
    Clip,
    describe_bulk,
    merge_rows,
    read_chunk,
    write_chunk,
)
from pipeline_src.manifest.origin import chunk_origin
from pipeline_src.manifest.progress import Progress
from pipeline_src.manifest.tars import TarBuilder, build_tar
from pipeline_src.media.batch import Decoded, decode_batch, make_batches
from pipeline_src.media.flags import SHORT_TOLERANCE_SECONDS
from pipeline_src.media.graph import ClipJob, frame_seconds
from pipeline_src.media.probe import Probe, probe_file

LOGGER = logging.getLogger(__name__)
BATCHES_AHEAD = 2
MIN_FRAME_DIGITS = 2
# What readers of the frames and the sound must know.
MEDIA_SETTINGS = {"sample_rate_hz", "num_frames", "frame_rate", "frame_size"}


@dataclass(frozen=True)
class Plan:
    """What to do with a usable clip.

    Args:
        listed_seconds: length by the clip list, or of the whole file where the list gives no end.
    """

    job: ClipJob
    probe: Probe
    listed_seconds: float


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
        media: without frames, clips need no video and are made sound only.
        num_workers: ffmpeg processes at a time, one thread each.
    Raises:
        StageError: no ffmpeg, the disk is full, or raw files that were fetched are gone.
    """
    source = read_chunk(download_manifest, "download")
    _check_raw_files(download_manifest, source)
    tar_path = manifest_path.with_suffix(".tar")
    rows: list[LedgerRow] = []
    clips: list[Clip] = []
    with ThreadPoolExecutor(num_workers) as pool, build_tar(tar_path) as tar:
        num_ahead = BATCHES_AHEAD * num_workers
        folder = download_manifest.parent
        for clip, result in _decode_all(pool, source.clips, folder, media, num_ahead):
            if isinstance(result, MediaError):
                rows.append(
                    LedgerRow(clip["clip_id"], "failed", result.reason, detail=result.detail)
                )
                continue
            plan, decoded = result
            entry = _manifest_clip(clip, plan, decoded, media)
            rows.append(LedgerRow(clip["clip_id"], "ok", flags=";".join(entry["flags"])))
            clips.append(entry)
            _add_members(tar, clip["key"], decoded)
    all_rows, lost = merge_rows([clip["clip_id"] for clip in source.clips], source.lost, rows)
    manifest = ChunkManifest(
        stage="transcode",
        id=source.id,
        version=version,
        num_in=source.num_in,
        tar=describe_bulk(tar_path),
        settings=media.model_dump(include=MEDIA_SETTINGS),
        clips=clips,
        lost=lost,
        origin=chunk_origin([download_manifest], version, media=media),
    )
    write_chunk(manifest_path, ledger_path, manifest, all_rows)
    LOGGER.info("transcode %s: %s", source.id, describe_losses(all_rows))


def _decode_all(
    pool: ThreadPoolExecutor, clips: list[Clip], folder: Path, media: MediaConfig, num_ahead: int
) -> Iterator[tuple[Clip, tuple[Plan, Decoded] | MediaError]]:
    """Probe all clips, decode the usable ones in batches, and yield all in list order."""
    plans = list(pool.map(lambda clip: _plan(clip, folder, media), clips))
    jobs = [plan.job for plan in plans if isinstance(plan, Plan)]
    batches = make_batches(jobs, media.clips_per_process)
    decoded = _map_in_order(pool, lambda batch: decode_batch(batch, media), batches, num_ahead)
    results = (result for batch in decoded for result in batch)
    progress = Progress("transcode", len(clips))
    for clip, plan in zip(clips, plans, strict=True):
        if isinstance(plan, MediaError):
            yield clip, plan
        else:
            result = next(results)
            yield clip, result if isinstance(result, MediaError) else (plan, result)
        progress.update()


def _map_in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    num_ahead: int,
) -> Iterator[Result]:
    """``pool.map`` that runs only ``num_ahead`` items ahead: results do not pile up in memory."""
    pending: collections.deque[Future[Result]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > num_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _check_raw_files(manifest_path: Path, manifest: ChunkManifest) -> None:
    """Raw clips stay on the machine that fetched them; the manifest may come from another."""
    gone = [clip for clip in manifest.clips if not (manifest_path.parent / clip["path"]).is_file()]
    if gone:
        raise StageError(
            f"{manifest_path}: {len(gone)} of {len(manifest.clips)} raw clips are not on this "
            f"machine, the first is {gone[0]['path']}; fetch them with `snakemake --forcerun "
            f"download_clips -- download_{manifest.id.dataset}`, then run the same command again"
        )


def _plan(clip: Clip, folder: Path, media: MediaConfig) -> Plan | MediaError:
    """Decide from the container what to decode, or why not."""
    path = folder / clip["path"]
    try:
        probe = probe_file(path, needs_video=media.has_frames)
        start = clip["start_seconds"] or 0.0
        end = probe.duration_seconds if clip["end_seconds"] is None else clip["end_seconds"]
        seconds = min(end, probe.duration_seconds) - start
        if seconds < media.min_seconds:
            shown = f"{max(seconds, 0):g} s"
            raise MediaError("too_short", f"{shown}; media.min_seconds={media.min_seconds:g}")
        if seconds > media.max_seconds:
            raise MediaError(
                "unsupported", f"{seconds:g} s; media.max_seconds={media.max_seconds:g}"
            )
    except MediaError as error:
        return error
    job = ClipJob(path, start, seconds, probe.audio_index, probe.video_index)
    return Plan(job, probe, listed_seconds=end - start)


def _manifest_clip(clip: Clip, plan: Plan, decoded: Decoded, media: MediaConfig) -> Clip:
    job, probe = plan.job, plan.probe
    audio_seconds = decoded.num_samples / media.sample_rate_hz
    seconds = min(job.duration_seconds, audio_seconds)
    marks = {
        "silent_audio": decoded.is_silent,
        "static_video": decoded.is_static,
        "short": seconds < plan.listed_seconds - SHORT_TOLERANCE_SECONDS,
    }
    return {key: clip[key] for key in ("clip_id", "key", "labels", "source")} | {
        "start_seconds": job.start_seconds,
        "end_seconds": round(job.start_seconds + job.duration_seconds, 6),
        "duration_seconds": round(job.duration_seconds, 6),
        "audio_seconds": audio_seconds,
        "fps": round(probe.fps, 6),
        "frame_seconds": frame_seconds(job.duration_seconds, media),
        "audio_codec": probe.audio_codec,
        "video_codec": probe.video_codec,
        "flags": [flag for flag, is_set in marks.items() if is_set],
    }


def _add_members(tar: TarBuilder, key: str, decoded: Decoded) -> None:
    tar.add(f"{key}.flac", decoded.flac)
    digits = max(MIN_FRAME_DIGITS, len(str(len(decoded.frames) - 1)))
    for number, frame in enumerate(decoded.frames):
        tar.add(f"{key}.frame_{number:0{digits}d}.jpg", frame)
