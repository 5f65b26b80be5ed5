"""Where the key frames of a clip are, by its packets: nothing is decoded."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Stream

from pipeline_src.errors import MediaError
from pipeline_src.media.probe import INPUT_OPTIONS, MICROSECONDS, input_url

# How long before the clip to look for a key frame, where a container cannot seek to one (MPEG-TS).
STEPS_BACK_SECONDS = (0.0, 2.0, 8.0, 32.0)


class KeyFrames(NamedTuple):
    """Where decoding has to begin, and the key frame nearest to each moment.

    Args:
        seek_seconds: a seek to here reaches a key frame at or before the clip's start.
        nearest_seconds: from the clip's start, ascending; may lie outside the clip.
    """

    seek_seconds: float
    nearest_seconds: tuple[float, ...]


def find_key_frames(
    path: Path, video_index: int, start_seconds: float, moments: Sequence[float]
) -> KeyFrames:
    """Look for key frames; of two equally near a moment the earlier one counts.

    Args:
        moments: ascending, from the clip's start at ``start_seconds``; none to look for its
            beginning only.
    Raises:
        MediaError: corrupt; no key frame.
    """
    try:
        with av.open(
            input_url(path), options=INPUT_OPTIONS, metadata_errors="replace"
        ) as container:
            video = container.streams[video_index]
            for stream in container.streams:
                stream.discard = Discard.default if stream is video else Discard.all
            seek_seconds = _find_beginning(container, video, start_seconds)
            _seek(container, seek_seconds)
            keys = sorted(_keys_near(container, video, start_seconds, moments))
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError("corrupt", f"cannot be read: {error}") from error
    if moments and not keys:
        raise MediaError("corrupt", "the video stream has no key frame")
    nearest = (min(keys, key=lambda key: abs(key - moment)) for moment in moments)
    return KeyFrames(seek_seconds, tuple(nearest))


def _find_beginning(container: InputContainer, video: Stream, start_seconds: float) -> float:
    for back_seconds in STEPS_BACK_SECONDS:
        seek_seconds = start_seconds - back_seconds
        if seek_seconds <= 0:
            return 0.0
        _seek(container, seek_seconds)
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


def _seek(container: InputContainer, seconds: float) -> None:
    container.seek((container.start_time or 0) + round(seconds * MICROSECONDS))


def _packets(container: InputContainer, video: Stream) -> Iterator[tuple[float, bool]]:
    """Time in the file, and whether it is a key frame, of each picture that has a time."""
    start_seconds = (container.start_time or 0) / MICROSECONDS
    for packet in container.demux(video):
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is not None and packet.time_base is not None:
            yield float(ticks * packet.time_base) - start_seconds, packet.is_keyframe
