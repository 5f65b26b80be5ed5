"""Where the key frames of a clip are, by its packets: nothing is decoded.

Known before ffmpeg starts, a key frame that does not come out is noticed: H.264 decoders lose count
where open GOPs have gaps.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

from pipeline_src.transcode.extent import Clock, may_jump, read_packets
from pipeline_src.transcode.length import MICROSECONDS
from pipeline_src.transcode.probe import open_container

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
        last_picture_seconds: when the last picture of the file begins, from the clip's start, where
            the packets were read up to it; else infinite.
    """

    seek_seconds: float
    nearest_seconds: tuple[float, ...]
    tolerance_seconds: float
    last_picture_seconds: float = math.inf


def find_key_frames(
    path: Path,
    video_index: int,
    start_seconds: float,
    moments: Sequence[float],
    *,
    max_pixels: int,
    zero_seconds: float | None = None,
    margin_seconds: float | None = 0.0,
) -> KeyFrames:
    """Look for key frames; of two equally near a moment the earlier one counts.

    Args:
        moments: ascending, from the clip's start at ``start_seconds``; none to look for its
            beginning only.
        max_pixels: as for the probe.
        zero_seconds: 0 of these times in the file's own; None = what libav takes.
        margin_seconds: begin at least this long before the clip; None = at the file's start.
    Raises:
        MediaError: corrupt.
    """
    with open_container(path, max_pixels) as container:
        video = container.streams[video_index]
        if zero_seconds is None:
            zero_seconds = (container.start_time or 0) / MICROSECONDS
        seek_seconds, is_there = 0.0, True
        if start_seconds > 0 and margin_seconds is not None:
            latest = start_seconds - margin_seconds
            seek_seconds = _find_beginning(container, video, latest, zero_seconds)
            is_there = _seek(container, seek_seconds + zero_seconds)
        packets = _packets(container, video, zero_seconds) if is_there else ()
        found, last_picture = _keys_near(packets, start_seconds, moments)
        keys = sorted(set(found))
    nearest = [min(keys, key=lambda key: abs(key - moment)) for moment in moments if keys]
    gap = min((b - a for a, b in pairwise(keys)), default=1.0)
    tolerance = min(MAX_TOLERANCE_SECONDS, TOLERANCE_OF_GAP * gap)
    return KeyFrames(seek_seconds, tuple(nearest), tolerance, last_picture)


def _find_beginning(
    container: InputContainer, video: Stream, latest_seconds: float, zero_seconds: float
) -> float:
    """Find where to seek to for a key frame no later than ``latest_seconds``."""
    for back_seconds in STEPS_BACK_SECONDS:
        seek_seconds = latest_seconds - back_seconds
        if seek_seconds <= 0:
            return 0.0
        if not _seek(container, seek_seconds + zero_seconds):
            return 0.0
        for seconds, is_key in _packets(container, video, zero_seconds):
            if is_key and seconds <= latest_seconds:
                return seek_seconds
            if is_key or seconds > latest_seconds:
                break
    return 0.0


def _keys_near(
    packets: Iterable[tuple[float, bool]], start_seconds: float, moments: Sequence[float]
) -> tuple[list[float], float]:
    """Return key frame times from the clip's start, up to where none can be nearer.

    And when the last picture begins, if there are none that far.
    """
    keys: list[float] = []
    if not moments:
        return keys, math.inf
    last, last_picture = moments[-1], -math.inf
    for file_seconds, is_key in packets:
        seconds = round(file_seconds - start_seconds, 6)
        last_picture = max(last_picture, seconds)
        if is_key:
            keys.append(seconds)
        if keys and seconds - last > abs(last - keys[-1]):
            return keys, math.inf
    return keys, last_picture if keys else math.inf


def _seek(container: InputContainer, own_seconds: float) -> bool:
    """Seek if the container can, and return whether it could; ffmpeg else reads from the start."""
    try:
        container.seek(round(own_seconds * MICROSECONDS))
    except FFmpegError:
        return False
    return True


def _packets(
    container: InputContainer, video: Stream, zero_seconds: float
) -> Iterator[tuple[float, bool]]:
    """Yield time in the file and whether it is a key frame, of each picture with a time."""
    clock = Clock(may_jump(container))
    for packet in read_packets(container, [video]):
        if packet.dts is not None or packet.pts is not None:
            moment = clock.place(packet)
            if moment is not None:
                yield moment.start_seconds - zero_seconds, packet.is_keyframe
