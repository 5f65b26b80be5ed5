"""Decode a batch of clips in one ffmpeg process; halve the batch until a bad clip stands alone."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError
from pipeline_src.media.audio import read_flac
from pipeline_src.media.ffmpeg import run
from pipeline_src.media.flags import is_silent, is_static
from pipeline_src.media.graph import (
    ClipJob,
    audio_name,
    build_arguments,
    count_frames,
    frame_name,
)

# Start-up dominates short clips only; long ones share a process for no longer than this, so that
# the time-out of one clip also bounds a batch.
BATCH_SECONDS = 60.0
NO_DECODER_MESSAGES = ("no decoder found", "Decoder not found", "Unknown decoder")


@dataclass(frozen=True)
class Decoded:
    """One clip, decoded.

    Args:
        flac: 16-bit mono audio.
        frames: JPEG frames in time order; none for sound alone.
        num_samples: length of the audio.
    """

    flac: bytes
    frames: tuple[bytes, ...]
    num_samples: int
    is_silent: bool
    is_static: bool


def make_batches(jobs: Sequence[ClipJob], clips_per_process: int) -> Iterator[Sequence[ClipJob]]:
    """Cut ``jobs`` into runs of at most ``clips_per_process`` clips and BATCH_SECONDS of media."""
    first = 0
    seconds = 0.0
    for index, job in enumerate(jobs):
        is_full = index - first == clips_per_process
        if index > first and (is_full or seconds + job.duration_seconds > BATCH_SECONDS):
            yield jobs[first:index]
            first, seconds = index, 0.0
        seconds += job.duration_seconds
    if first < len(jobs):
        yield jobs[first:]


def decode_batch(jobs: Sequence[ClipJob], media: MediaConfig) -> list[Decoded | MediaError]:
    """Decode ``jobs``; one result each, in order."""
    with tempfile.TemporaryDirectory(prefix="transcode-") as name:
        folder = Path(name)
        try:
            run(build_arguments(jobs, media), timeout_seconds=media.timeout_seconds, folder=folder)
        except MediaError as error:
            if len(jobs) == 1:
                return [_refine(error)]
        else:
            return [_collect(folder, index, job, media) for index, job in enumerate(jobs)]
    half = len(jobs) // 2
    return decode_batch(jobs[:half], media) + decode_batch(jobs[half:], media)


def _refine(error: MediaError) -> MediaError:
    if any(message in error.detail for message in NO_DECODER_MESSAGES):
        return MediaError("unsupported", error.detail)
    return error


def _collect(folder: Path, index: int, job: ClipJob, media: MediaConfig) -> Decoded | MediaError:
    num_frames = count_frames(job.duration_seconds, media)
    try:
        flac = (folder / audio_name(index)).read_bytes()
        frames = tuple(
            (folder / frame_name(index, f"{number:04d}")).read_bytes()
            for number in range(1, num_frames + 1)
        )
        samples = read_flac(flac)
    except FileNotFoundError as error:
        return MediaError(
            "corrupt", f"ffmpeg wrote no {Path(error.filename).suffix[1:]} for this clip"
        )
    except MediaError as error:
        return error
    if not samples.size:
        return MediaError("no_audio", "the audio stream holds nothing within the clip")
    if len(samples) < media.min_seconds * media.sample_rate_hz:
        return MediaError(
            "too_short", f"{len(samples)} samples of audio at {media.sample_rate_hz} Hz"
        )
    return Decoded(flac, frames, len(samples), is_silent(samples), is_static(frames))
