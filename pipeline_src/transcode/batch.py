"""Decode a batch of clips in one ffmpeg process; halve the batch until a bad clip stands alone.

A clip that fails alone may get another attempt, chosen by the first error: so good clips have the
same bytes under every policy.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError
from pipeline_src.transcode.audio import read_flac
from pipeline_src.transcode.changes import join_sound
from pipeline_src.transcode.ffmpeg import call_ffmpeg, drops_packets
from pipeline_src.transcode.ffmpeg_command import (
    WARM_UP_SECONDS,
    ClipJob,
    audio_name,
    build_arguments,
    counts_name,
    frames_name,
    largest_picture,
    times_name,
)
from pipeline_src.transcode.filters import MIX, mean_of
from pipeline_src.transcode.flags import is_silent, is_static, longest_zeros
from pipeline_src.transcode.frame_times import count_frames, frame_seconds
from pipeline_src.transcode.memory import BYTES_PER_WORKER, MemoryBudget

# Start-up dominates short clips only; long ones share a process for no longer than this, so that
# the time-out of one clip also bounds a batch.
BATCH_SECONDS = 60.0
NO_DECODER_MESSAGES = ("no decoder found", "Decoder not found", "Unknown decoder")
TOO_LARGE_MESSAGE = "Picture size"
# A new picture size starts the filters, and so the frames' clock, anew.
RESTART_MESSAGE = "Invalid pts"
FORMAT_MESSAGE = "Changing audio frame properties"
# ffmpeg mixes only channels whose positions it knows.
UNPLACED_MESSAGE = re.compile(r"Rematrix is needed between (\d+) channels")
# So far, of each channel.
BAD_SAMPLES = re.compile(r"(\d+\.Number.of.(?:NaNs|Infs))=([\d.]+)")
# The container calls a packet incomplete: where pieces were joined, or the file ends within one.
MARKED_MESSAGE = "corrupt input packet"
CUT_NAME = "sound"
NO_FRAMES_MESSAGE = "ffmpeg wrote no frames for this clip"
# Markers of JPEG.
START_OF_IMAGE = b"\xff\xd8"
START_OF_SCAN = b"\xff\xda"
END_OF_IMAGE = b"\xff\xd9"


@dataclass(frozen=True)
class Decoded:
    """One clip, decoded.

    Args:
        flac: 16-bit mono audio.
        frames: JPEG frames in time order; none for sound alone.
        frame_seconds: their times from the clip's start.
        num_samples: length of the audio.
        num_bad_samples: samples that are no finite numbers.
        is_other_sound: it is another track or mix, because the usual one is silent.
        num_errors: what ffmpeg complained of; 0 unless the clip was decoded in spite of errors.
        zeros_seconds: start and length of the longest stretch of digital silence.
        picture_seconds: times of the first and the last picture that was decoded, which need not
            be the last of the stream; None for key frames and without frames.
    """

    flac: bytes
    frames: tuple[bytes, ...]
    frame_seconds: tuple[float, ...]
    num_samples: int
    num_errors: int
    is_silent: bool
    is_static: bool
    num_bad_samples: int
    zeros_seconds: tuple[float, float]
    picture_seconds: tuple[float, float] | None
    is_other_sound: bool = False


def make_batches(jobs: Sequence[ClipJob], clips_per_process: int) -> Iterator[Sequence[ClipJob]]:
    """Cut ``jobs`` into batches bounded in clips, in BATCH_SECONDS of media and in memory."""
    first = 0
    seconds, num_bytes = 0.0, 0
    for index, job in enumerate(jobs):
        is_full = (
            index - first == clips_per_process
            or seconds + job.duration_seconds > BATCH_SECONDS
            or num_bytes + job.memory_bytes > BYTES_PER_WORKER
        )
        if index > first and is_full:
            yield jobs[first:index]
            first, seconds, num_bytes = index, 0.0, 0
        seconds += job.duration_seconds
        num_bytes += job.memory_bytes
    if first < len(jobs):
        yield jobs[first:]


def decode_batch(
    jobs: Sequence[ClipJob], media: MediaConfig, memory: MemoryBudget
) -> list[Decoded | MediaError]:
    """Decode ``jobs``; one result each, in order."""
    try:
        results = _decode_together(jobs, media, memory)
    except MediaError as error:
        if len(jobs) > 1:
            half = len(jobs) // 2
            parts = (jobs[:half], jobs[half:])
            return [result for part in parts for result in decode_batch(part, media, memory)]
        results = [error]
    return [_resolve(job, result, media, memory) for job, result in zip(jobs, results, strict=True)]


def _decode_together(
    jobs: Sequence[ClipJob], media: MediaConfig, memory: MemoryBudget
) -> list[Decoded | MediaError]:
    with tempfile.TemporaryDirectory(prefix="transcode-") as name:
        folder = Path(name)
        with memory.hold(sum(job.memory_bytes for job in jobs)):
            if jobs[0].cuts_end:  # such clips stand alone
                jobs = [_cut_end(jobs[0], folder)]
            if not jobs[0].has_one_format:
                jobs = [join_sound(jobs[0], media, folder)]
            num_errors = call_ffmpeg(
                build_arguments(jobs, media), timeout_seconds=media.timeout_seconds, folder=folder
            )
        if num_errors and not all(job.heeds_marks for job in jobs) and jobs[0].is_strict:
            raise MediaError("corrupt", f"{MARKED_MESSAGE}; decoding gave {num_errors} errors")
        return [_collect(folder, index, job, media, num_errors) for index, job in enumerate(jobs)]


def _resolve(
    job: ClipJob, result: Decoded | MediaError, media: MediaConfig, memory: MemoryBudget
) -> Decoded | MediaError:
    """Return the clip's result, that of a further attempt, or why there is none."""
    if isinstance(result, Decoded):
        if result.num_bad_samples and not job.mends_samples:
            return decode_batch([replace(job, mends_samples=True)], media, memory)[0]
        return _find_sound(job, result, media, memory) if result.is_silent else result
    if again := _next_attempt(job, result, media, memory.total_bytes):
        return decode_batch([again], media, memory)[0]
    if any(message in result.detail for message in (*NO_DECODER_MESSAGES, TOO_LARGE_MESSAGE)):
        return MediaError("unsupported", result.detail)
    if job.is_strict and NO_FRAMES_MESSAGE in result.detail:  # no decoder complained either
        return MediaError("no_video", "the video stream holds nothing within the clip")
    return result


def _find_sound(job: ClipJob, silent: Decoded, media: MediaConfig, memory: MemoryBudget) -> Decoded:
    """Decode the first of the clip's other sounds that is not silent, else return it as it is."""
    for audio_index, mix in job.other_sounds:
        other = replace(job, audio_index=audio_index, mix=mix, other_sounds=())
        (result,) = decode_batch([other], media, memory)
        if isinstance(result, Decoded) and not result.is_silent:
            return replace(result, is_other_sound=True)
    return silent


def _next_attempt(
    job: ClipJob, error: MediaError, media: MediaConfig, memory_bytes: int
) -> ClipJob | None:
    """Choose what else may work for a clip that failed alone; None = nothing."""
    if error.reason != "corrupt":
        return None
    is_too_large = TOO_LARGE_MESSAGE in error.detail
    if job.has_one_format and FORMAT_MESSAGE in error.detail:
        return replace(job, has_one_format=False)
    if (unplaced := UNPLACED_MESSAGE.search(error.detail)) and job.mix == MIX:
        return replace(job, mix=mean_of(int(unplaced[1])))
    if job.key_seconds:  # these cannot be decoded without the frames between, e.g. open GOPs
        return replace(job, key_seconds=())
    if job.is_steady and (is_too_large or RESTART_MESSAGE in error.detail):
        picture = largest_picture(memory_bytes, media.max_pixels, job.picture.bytes_per_pixel)
        return replace(job, is_steady=False, picture=picture)
    return None if is_too_large else _other_packets(job, error, media)


def _other_packets(job: ClipJob, error: MediaError, media: MediaConfig) -> ClipJob | None:
    """Choose other packets to decode; the last resort is to tolerate decoding errors."""
    if job.start_seconds > 0 and job.sound_from_seconds is None and drops_packets():
        return replace(job, sound_from_seconds=-WARM_UP_SECONDS)
    if job.heeds_marks and MARKED_MESSAGE in error.detail and not job.lacks_picture:
        return replace(job, heeds_marks=False)
    if job.foreign and not job.skips_foreign and drops_packets():
        return replace(job, skips_foreign=True)
    if job.media_end is not None and not job.cuts_end:
        return replace(job, cuts_end=True)
    if job.seek_seconds > 0 and not (job.seeks_exactly or job.is_from_start):
        return replace(job, is_from_start=True)
    # Where no decoder complained there is nothing to tolerate.
    if job.is_strict and media.decode_errors == "tolerate" and error.detail != NO_FRAMES_MESSAGE:
        return replace(job, is_strict=False, is_from_start=False)
    return None


def _cut_end(job: ClipJob, folder: Path) -> ClipJob:
    """Return the job with a copy of its file in ``folder`` without what follows the sound."""
    path = folder / CUT_NAME
    with job.path.open("rb") as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
        target.truncate(job.media_end)
    return replace(job, path=path)


def _collect(
    folder: Path, index: int, job: ClipJob, media: MediaConfig, num_errors: int
) -> Decoded | MediaError:
    try:
        flac = (folder / audio_name(index)).read_bytes()
        shown = _read_frames(folder, index, job, media)
        samples = read_flac(flac)
        _check_audio(samples, job, media)
    except FileNotFoundError as error:
        kind = Path(error.filename).suffix[1:]
        return MediaError("corrupt", f"ffmpeg wrote no {kind} for this clip")
    except MediaError as error:
        return error
    frames, moments = shown, job.key_seconds
    first, count = longest_zeros(samples)
    if job.key_seconds:
        pictures = dict(zip(job.unique_key_seconds, shown, strict=True))
        frames = tuple(pictures[seconds] for seconds in job.key_seconds)
    elif shown:
        moments = tuple(frame_seconds(job.duration_seconds, media))
    return Decoded(
        flac=flac,
        frames=frames,
        frame_seconds=moments,
        num_samples=len(samples),
        num_errors=0 if job.is_strict and job.heeds_marks else max(1, num_errors),
        is_silent=is_silent(samples),
        is_static=is_static(shown),
        num_bad_samples=_count_bad_samples(folder / counts_name(index)),
        zeros_seconds=(first / media.sample_rate_hz, count / media.sample_rate_hz),
        picture_seconds=_read_times(folder / times_name(index)),
    )


def _read_frames(folder: Path, index: int, job: ClipJob, media: MediaConfig) -> tuple[bytes, ...]:
    """Read each picture that ffmpeg wrote, once.

    Raises:
        MediaError: there are more or fewer than the clip has.
    """
    if job.video_index is None:
        return ()
    count = len(job.unique_key_seconds) or count_frames(job.duration_seconds, media)
    frames = split_jpegs((folder / frames_name(index)).read_bytes())
    if not frames:
        raise MediaError("corrupt", NO_FRAMES_MESSAGE)
    if len(frames) > count:
        raise MediaError("corrupt", f"{RESTART_MESSAGE}: more than {count} frames")
    if len(frames) < count:
        raise MediaError("corrupt", f"ffmpeg wrote {len(frames)} of {count} frames of this clip")
    return frames


def split_jpegs(stream: bytes) -> tuple[bytes, ...]:
    """Take JPEG files apart that follow one another, of one scan each; a cut one is left out."""
    files: list[bytes] = []
    start = 0
    while scan := _find_scan(stream, start):
        end = stream.find(END_OF_IMAGE, scan) + len(END_OF_IMAGE)  # no scan holds these bytes
        if end < scan:
            break
        files.append(stream[start:end])
        start = end
    return tuple(files)


def _find_scan(stream: bytes, start: int) -> int:
    """Return where the scan of the JPEG file at ``start`` begins; 0 = nowhere."""
    place = start + len(START_OF_IMAGE)
    while place < len(stream):
        if stream.startswith(START_OF_SCAN, place):
            return place
        place += 2 + int.from_bytes(stream[place + 2 : place + 4])  # the marker, its segment
    return 0


def _count_bad_samples(path: Path) -> int:
    """Count by the last line that ffmpeg's filter ``ametadata`` printed, if any."""
    if not path.exists():
        return 0
    last = dict(BAD_SAMPLES.findall(path.read_text()))
    return sum(round(float(count)) for count in last.values())


def _read_times(path: Path) -> tuple[float, float] | None:
    """Return first and last time that ffmpeg's filter ``metadata`` printed, if any."""
    if not path.exists():
        return None
    times = [float(text) for text in re.findall(r"pts_time:([-.\deE+]+)", path.read_text())]
    return (min(times), max(times)) if times else None


def _check_audio(samples: np.ndarray, job: ClipJob, media: MediaConfig) -> None:
    rate = media.sample_rate_hz
    if not samples.size:
        reason = "no_audio" if job.is_strict else "corrupt"
        raise MediaError(reason, "the audio stream holds nothing within the clip")
    if len(samples) < media.min_seconds * rate:
        raise MediaError("too_short", f"{len(samples)} samples of audio at {rate} Hz")
