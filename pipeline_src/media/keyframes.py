"""Where the key frames of a clip are, by its packets: nothing is decoded."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard

from pipeline_src.errors import MediaError
from pipeline_src.media.probe import INPUT_OPTIONS, MICROSECONDS, input_url


def nearest_key_frames(
    path: Path, video_index: int, start_seconds: float, moments: Sequence[float]
) -> tuple[float, ...]:
    """The time of the key frame nearest to each moment; of two equally near the earlier one.

    Args:
        moments: ascending, from the clip's start at ``start_seconds``; as are the times returned,
            which may lie outside the clip.
    Raises:
        MediaError: corrupt; no key frame.
    """
    try:
        with av.open(
            input_url(path), options=INPUT_OPTIONS, metadata_errors="replace"
        ) as container:
            keys = sorted(_key_frames(container, video_index, start_seconds, moments[-1]))
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError("corrupt", f"cannot be read: {error}") from error
    if not keys:
        raise MediaError("corrupt", "the video stream has no key frame")
    return tuple(min(keys, key=lambda key: abs(key - moment)) for moment in moments)


def _key_frames(
    container: InputContainer, video_index: int, start_seconds: float, last_moment: float
) -> Iterator[float]:
    """Times from the clip's start: from the key frame before it to where none can be nearer."""
    video = container.streams[video_index]
    for stream in container.streams:
        if stream is not video:
            stream.discard = Discard.all
    origin = (container.start_time or 0) / MICROSECONDS + start_seconds
    if start_seconds > 0:
        container.seek(round(origin * MICROSECONDS))
    latest = None
    for packet in container.demux(video):
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is None or packet.time_base is None:
            continue
        seconds = round(float(ticks * packet.time_base) - origin, 6)
        if packet.is_keyframe:
            latest = seconds
            yield seconds
        if latest is not None and seconds - last_moment > abs(last_moment - latest):
            return
