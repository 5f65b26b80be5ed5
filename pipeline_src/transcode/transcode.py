"""Transcode one chunk: raw files -> a tar of FLAC and JPEG members, a manifest and a ledger."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError, StageError, as_clip_error
from pipeline_src.manifest.chunks import ChunkManifest, Clip, read_chunk
from pipeline_src.manifest.input_hash import hash_inputs
from pipeline_src.manifest.stage import Made, publish_chunk, write_results
from pipeline_src.system.progress import ProgressLine
from pipeline_src.transcode.agreement import lost_by_seeking, should_look_again
from pipeline_src.transcode.batch import Decoded, decode_batch, make_batches
from pipeline_src.transcode.clips import (
    PreparedClip,
    describe_amounts,
    describe_clip,
    explain,
    prepare_clip,
)
from pipeline_src.transcode.ffmpeg import refuse_no_ffmpeg
from pipeline_src.transcode.memory import MemoryBudget

BATCHES_AHEAD = 2
MIN_FRAME_DIGITS = 2
# What readers of the frames and the sound must know.
MEDIA_SETTINGS = {"sample_rate_hz", "num_frames", "frame_rate", "frame_size"}

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
    refuse_no_ffmpeg()
    source = read_chunk(download_manifest, "download")
    _check_raw_files(download_manifest, source)
    decoded = _decode_all(
        source.clips, download_manifest.parent, media, num_workers, f"transcode {source.id}"
    )
    tar_path = manifest_path.with_suffix(".tar")
    rows, entries = write_results(tar_path, decoded)
    publish_chunk(
        "transcode",
        source,
        rows,
        entries,
        manifest_path=manifest_path,
        ledger_path=ledger_path,
        tar_path=tar_path,
        settings=media.model_dump(include=MEDIA_SETTINGS),
        version=version,
        input_hash=hash_inputs([download_manifest], version, media=media),
    )


def _decode_all(
    clips: list[Clip], folder: Path, media: MediaConfig, num_workers: int, label: str
) -> Iterator[tuple[Clip, Made | MediaError]]:
    """Probe all clips, decode the usable ones in batches, and yield all in list order."""
    memory = MemoryBudget(num_workers)
    with ThreadPoolExecutor(num_workers) as pool, ProgressLine(label, len(clips)) as progress:
        limit = memory.total_bytes
        probed = list(pool.map(lambda clip: prepare_clip(clip, folder, media, limit), clips))
        pairs = zip(clips, probed, strict=True)
        usable = [(clip, found) for clip, found in pairs if isinstance(found, PreparedClip)]
        batches = make_batches([prepared.job for _, prepared in usable], media.clips_per_process)
        remaining = iter(usable)
        decoded = map_in_order(
            pool,
            lambda batch: decode_clips(batch, folder, media, memory),
            (list(itertools.islice(remaining, len(batch))) for batch in batches),
            num_ahead=BATCHES_AHEAD * num_workers,
        )
        results = (result for batch in decoded for result in batch)
        for clip, found in zip(clips, probed, strict=True):
            yield clip, found if isinstance(found, MediaError) else next(results)
            progress.update()


def decode_clips(
    clips: Sequence[tuple[Clip, PreparedClip]],
    folder: Path,
    media: MediaConfig,
    memory: MemoryBudget,
) -> list[Made | MediaError]:
    """Decode clips in one process; look again at those that are not as their headers promise."""
    try:
        results = decode_batch([prepared.job for _, prepared in clips], media, memory)
        return [
            _finish(clip, prepared, result, folder, media, memory)
            for (clip, prepared), result in zip(clips, results, strict=True)
        ]
    except Exception as error:
        found = as_clip_error(error, ", ".join(clip["clip_id"] for clip, _ in clips))
        if len(clips) == 1:
            return [found]
    return [result for one in clips for result in decode_clips([one], folder, media, memory)]


def _finish(
    clip: Clip,
    prepared: PreparedClip,
    result: Decoded | MediaError,
    folder: Path,
    media: MediaConfig,
    memory: MemoryBudget,
) -> Made | MediaError:
    if should_look_again(prepared.probe, prepared.job, result, _sound_seconds(result, media)):
        measured = prepare_clip(clip, folder, media, memory.total_bytes, distrusts_header=True)
        if isinstance(measured, MediaError):
            return measured
        if measured.job != prepared.job:
            (result,) = decode_batch([measured.job], media, memory)
        prepared = measured
    if lost_by_seeking(prepared.probe, prepared.job, result, _sound_seconds(result, media)):
        job = replace(prepared.job, is_from_start=True)
        (again,) = decode_batch([job], media, memory)
        result = again if isinstance(again, Decoded) else result
    if isinstance(result, MediaError):
        return explain(result, prepared)
    entry = describe_clip(clip, prepared, result, media)
    if isinstance(entry, MediaError):
        return entry
    return Made(entry, _members(clip["key"], result), describe_amounts(entry))


def _sound_seconds(result: Decoded | MediaError, media: MediaConfig) -> float:
    return 0.0 if isinstance(result, MediaError) else result.num_samples / media.sample_rate_hz


def map_in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    num_ahead: int,
) -> Iterator[Result]:
    """Map like ``pool.map``, but at most ``num_ahead`` items ahead: results do not pile up."""
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
    """Check that the raw clips are on this machine; the manifest may come from another.

    Raises:
        StageError: some of them are not.
    """
    gone = [clip for clip in manifest.clips if not (manifest_path.parent / clip["path"]).is_file()]
    if gone:
        raise StageError(
            f"{manifest_path}: {len(gone)} of {len(manifest.clips)} raw clips are not on this "
            f"machine, the first is {gone[0]['path']}; fetch them with `snakemake --forcerun "
            f"download_clips -- download_{manifest.id.dataset}`, then run the same command again"
        )


def _members(key: str, decoded: Decoded) -> list[tuple[str, bytes]]:
    digits = max(MIN_FRAME_DIGITS, len(str(len(decoded.frames) - 1)))
    frames = enumerate(decoded.frames)
    names = ((f"{key}.frame_{number:0{digits}d}.jpg", frame) for number, frame in frames)
    return [(f"{key}.flac", decoded.flac), *names]
