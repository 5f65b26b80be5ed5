"""Where the key frames of a clip are, by its packets: nothing is decoded."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Stream

from pipeline_src.media.probe import MICROSECONDS, open_container

# How long before the clip to look for a key frame, where a container cannot seek to one (MPEG-TS).
STEPS_BACK_SECONDS = (0.0, 2.0, 8.0, 32.0)
# Versions of libav disagree where a file begins, and AVI and Ogg what time it is after a seek.
MAX_TOLERANCE_SECONDS = 0.1
TOLERANCE_OF_GAP = 0.4


class KeyFrames(NamedTuple):
    """Where decoding has to begin, and the key frame nearest to each moment.

    Args:
        seek_seconds: a seek to here reaches a key frame at or before the clip's start.
        nearest_seconds: from the clip's start, ascending; may lie outside the clip. Empty where
            the packets tell of no key frame.
        tolerance_seconds: a decoder's time of a key frame is nearer than this to its own, and
            further from every other.
    """

    seek_seconds: float
    nearest_seconds: tuple[float, ...]
    tolerance_seconds: float


def find_key_frames(
    path: Path,
    video_index: int,
    start_seconds: float,
    moments: Sequence[float],
    *,
    max_pixels: int,
) -> KeyFrames:
    """Look for key frames; of two equally near a moment the earlier one counts.

    Args:
        moments: ascending, from the clip's start at ``start_seconds``; none to look for its
            beginning only.
        max_pixels: as for the probe.
    Raises:
        MediaError: corrupt.
    """
    with open_container(path, max_pixels) as container:
        video = container.streams[video_index]
        for stream in container.streams:
            stream.discard = Discard.default if stream is video else Discard.all
        seek_seconds = _find_beginning(container, video, start_seconds)
        is_there = start_seconds == 0 or _seek(container, seek_seconds)
        found = _keys_near(container, video, start_seconds, moments) if is_there else ()
        keys = sorted(set(found))
    nearest = [min(keys, key=lambda key: abs(key - moment)) for moment in moments if keys]
    gap = min((b - a for a, b in pairwise(keys)), default=1.0)
    tolerance = min(MAX_TOLERANCE_SECONDS, TOLERANCE_OF_GAP * gap)
    return KeyFrames(seek_seconds, tuple(nearest), tolerance)


def _find_beginning(container: InputContainer, video: Stream, start_seconds: float) -> float:
    for back_seconds in STEPS_BACK_SECONDS:
        seek_seconds = start_seconds - back_seconds
        if seek_seconds <= 0:
            return 0.0
        if not _seek(container, seek_seconds):
            return 0.0
        for seconds, is_key in _packets(container, video):
            if is_key and seconds <= start_seconds:
                return seek_seconds
            if is_key or seconds > start_seconds:
                break
    return 0.0


def _keys_near(
    container: InputContainer, video: Stream, start_seconds: float, moments: Sequence[float]
) -> Iterator[float]:
    """Times from the clip's start: from the key frame before it to where none can be nearer."""
    if not moments:
        return
    last, latest = moments[-1], None
    for file_seconds, is_key in _packets(container, video):
        seconds = round(file_seconds - start_seconds, 6)
        if is_key:
            latest = seconds
            yield seconds
        if latest is not None and seconds - last > abs(last - latest):
            return


def _seek(container: InputContainer, seconds: float) -> bool:
    """Whether the container can seek; ffmpeg itself then reads from the beginning."""
    try:
        container.seek((container.start_time or 0) + round(seconds * MICROSECONDS))
    except FFmpegError:
        return False
    return True


def _packets(container: InputContainer, video: Stream) -> Iterator[tuple[float, bool]]:
    """Time in the file, and whether it is a key frame, of each picture that has a time."""
    start_seconds = (container.start_time or 0) / MICROSECONDS
    packets = container.demux(video)
    while (packet := _next_packet(packets)) is not None:
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is not None and packet.time_base is not None:
            yield float(ticks * packet.time_base) - start_seconds, packet.is_keyframe


def _next_packet(packets: Iterator[Packet]) -> Packet | None:
    """None at the end, and where the file is damaged: decoding judges that."""
    try:
        return next(packets, None)
    except FFmpegError:
        return None
