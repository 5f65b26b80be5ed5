"""Compare what was decoded with what was expected: what is missing, and whether to look again."""

from collections.abc import Iterable
from typing import NamedTuple

from pipeline_src.errors import MediaError
from pipeline_src.transcode.batch import Decoded
from pipeline_src.transcode.extent import HOLE_SECONDS, Span
from pipeline_src.transcode.ffmpeg_command import ClipJob
from pipeline_src.transcode.flags import SHORT_TOLERANCE_SECONDS
from pipeline_src.transcode.probe import MediaInfo

# Found only where the header promised sound or pictures that are not there, or a damaged file.
SILENT_REASONS = ("no_audio", "too_short")
EMPTY_REASONS = (*SILENT_REASONS, "no_video", "corrupt")
# Times of pictures are rounded by containers.
ROUNDING_SECONDS = 0.005


class Missing(NamedTuple):
    """What a decoded clip lacks.

    Args:
        end_seconds: where its sound or its picture ends, whichever is first, from its start.
        gap_seconds: silence put into the sound where the file has none, what the picture begins
            late, and how long it stands still where its file has no pictures.
        num_repeated_frames: frames whose moment lies a picture or more after the last one, or
            before the first, where that is late.
        is_repeated_to_end: whether some lie after the last one.
    """

    end_seconds: float
    gap_seconds: float
    num_repeated_frames: int
    is_repeated_to_end: bool


def find_missing(probe: MediaInfo, job: ClipJob, decoded: Decoded, audio_seconds: float) -> Missing:
    """Compare a decoded clip with its file."""
    begin, end = _picture_span(probe, job, decoded)
    frame = probe.frame_seconds
    moments = () if job.key_seconds else decoded.frame_seconds
    late = max(0.0, min(begin, job.duration_seconds))
    late = late if late > max(frame, HOLE_SECONDS) else 0.0
    num_early = sum(moment < begin - ROUNDING_SECONDS for moment in moments) if late else 0
    num_after = sum(moment >= end + frame for moment in moments)
    is_whole = not num_after and end + max(frame, SHORT_TOLERANCE_SECONDS) >= job.duration_seconds
    return Missing(
        end_seconds=min(
            job.duration_seconds, audio_seconds, *(() if is_whole else (max(end, 0.0),))
        ),
        gap_seconds=max(_silence_seconds(probe, job), _standstill_seconds(probe, job), late),
        num_repeated_frames=num_early + num_after,
        is_repeated_to_end=num_after > 0,
    )


def should_look_again(
    probe: MediaInfo, job: ClipJob, result: Decoded | MediaError, audio_seconds: float
) -> bool:
    """Return whether only the packets can tell why a clip is not what its header promised."""
    if probe.length.is_measured:
        return False
    if isinstance(result, MediaError):
        return result.reason in EMPTY_REASONS
    if result.num_errors:  # a picture may be cut in two, the sound be shorter than stated
        return True
    _, zeros = result.zeros_seconds
    if zeros > HOLE_SECONDS and not probe.length.is_dense:
        return True
    tolerance = max(SHORT_TOLERANCE_SECONDS, 1.5 * probe.frame_seconds)
    is_seen_to_end = True
    if result.picture_seconds:
        last = result.picture_seconds[1]
        is_seen_to_end = last + tolerance >= job.duration_seconds
        if last + tolerance < result.frame_seconds[-1]:
            return True
    ends_early = audio_seconds < job.duration_seconds - tolerance
    return ends_early and (job.video_index is None or not is_seen_to_end)


def lost_by_seeking(
    probe: MediaInfo, job: ClipJob, result: Decoded | MediaError, audio_seconds: float
) -> bool:
    """Return whether sound is missing that the file has, after a seek that may have gone too far.

    ffmpeg seeks by the picture, also where only the sound is decoded.
    """
    is_exact = job.seeks_exactly and job.video_index is not None
    if is_exact or job.seek_seconds <= 0 or job.is_from_start:
        return False
    if isinstance(result, MediaError):
        if result.reason not in SILENT_REASONS:
            return False
    else:
        start, zeros = result.zeros_seconds
        if start <= HOLE_SECONDS < zeros - _silence_seconds(probe, job):
            return True
    extent = probe.length.extent
    if extent is None or extent.audio_seconds is None:
        return False
    end = extent.audio_seconds[1] - _own_start(probe, job)
    return audio_seconds < min(job.duration_seconds, end) - SHORT_TOLERANCE_SECONDS


def _own_start(probe: MediaInfo, job: ClipJob) -> float:
    """Return the clip's start in the file's own time."""
    return probe.length.own_zero_seconds + job.start_seconds


def _silence_seconds(probe: MediaInfo, job: ClipJob) -> float:
    """Measure how much of the clip no sound of the file covers, before its end."""
    extent = probe.length.extent
    begin = _own_start(probe, job) - job.start_seconds + probe.length.audio_begin_seconds
    return _within(probe, job, ((-float("inf"), begin), *(extent.holes if extent else ())))


def _standstill_seconds(probe: MediaInfo, job: ClipJob) -> float:
    """Measure how long the picture stands still for want of pictures, within the clip."""
    extent = probe.length.extent
    return _within(
        probe, job, extent.picture_holes if extent and job.video_index is not None else ()
    )


def _within(probe: MediaInfo, job: ClipJob, spans: Iterable[Span]) -> float:
    """Measure how much of the clip lies in ``spans`` of the file's own time."""
    own = _own_start(probe, job)
    parts = (min(last - own, job.duration_seconds) - max(first - own, 0.0) for first, last in spans)
    return sum(part for part in parts if part > HOLE_SECONDS)


def _picture_span(probe: MediaInfo, job: ClipJob, decoded: Decoded) -> tuple[float, float]:
    """Return where the picture begins and ends, from the clip's start, as far as known."""
    known = probe.length.video_end_seconds
    read = job.last_picture_seconds + probe.frame_seconds
    end = read if known is None else known - job.start_seconds
    if decoded.picture_seconds is None:
        return 0.0, end
    first, last = decoded.picture_seconds
    if last >= decoded.frame_seconds[-1]:  # decoding ended there, not the stream
        return first, end
    extent = probe.length.extent
    decoded_end = last + probe.frame_seconds
    if extent is None:
        return first, decoded_end if known is None else end
    stored = extent.last_picture_seconds - _own_start(probe, job)
    is_lost = stored > decoded_end + ROUNDING_SECONDS
    return first, decoded_end if is_lost else end
