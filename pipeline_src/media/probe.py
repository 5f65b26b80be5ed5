"""What a raw file holds, by PyAV: streams to use, duration, codecs, or the reason it is useless."""

from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream

from pipeline_src.errors import MediaError

# Containers that hold their own media. Playlists (hls, dash, concat) name other files: refused.
CONTAINERS = (
    "3g2,3gp,aac,ac3,aiff,asf,avi,dv,flac,flv,gif,h264,hevc,ivf,m4a,m4v,matroska,mj2,mov,mp3,mp4,mpeg,"
    "mpegts,mpegvideo,mxf,nut,ogg,rm,wav,webm"
)
INPUT_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Probe:
    """A usable file.

    Args:
        audio_index, video_index: stream numbers in the container; None = no video is wanted.
        duration_seconds: of the container; of its longest stream where the header does not say.
        fps: average frame rate, 0.0 where unknown or without video.
    """

    audio_index: int
    video_index: int | None
    duration_seconds: float
    fps: float
    audio_codec: str
    video_codec: str


def probe_file(path: Path, *, needs_video: bool = True) -> Probe:
    """Look into a file without decoding it.

    Args:
        needs_video: False looks at the sound alone, whether there is video or not.
    Raises:
        MediaError: corrupt (no known container, no duration), no_audio, no_video, unsupported.
    """
    try:
        with av.open(
            input_url(path), options=INPUT_OPTIONS, metadata_errors="replace"
        ) as container:
            return _probe(container, needs_video)
    except (FFmpegError, OSError, UnicodeDecodeError, ValueError) as error:
        raise MediaError("corrupt", f"cannot be opened: {error}") from error


def input_url(path: Path) -> str:
    """The file's name in a form that is never read as an option or a protocol."""
    return f"file:{path}"


def _probe(container: InputContainer, needs_video: bool) -> Probe:
    audio = container.streams.best("audio")
    video = _video_stream(container)
    if not container.streams.audio and video is None:
        raise MediaError("corrupt", "neither an audio nor a video stream")
    if audio is None:
        raise MediaError("no_audio", "no audio stream")
    if not needs_video:
        video = None
    elif video is None:
        raise MediaError("no_video", "no video stream")
    for stream in (audio, video):
        if stream is not None and stream.codec_context is None:
            raise MediaError("unsupported", f"no decoder for the {stream.type} stream")
    rate = getattr(video, "average_rate", None)
    duration_seconds = _duration_seconds(container)
    if duration_seconds <= 0:
        raise MediaError("corrupt", "holds no media")
    return Probe(
        audio_index=audio.index,
        video_index=None if video is None else video.index,
        duration_seconds=duration_seconds,
        fps=float(rate) if rate else 0.0,
        audio_codec=audio.codec_context.name,
        video_codec="" if video is None else video.codec_context.name,
    )


def _video_stream(container: InputContainer) -> Stream | None:
    """The best video stream that is no cover picture."""
    video = container.streams.best("video")
    if video is not None and video.disposition & Disposition.attached_pic:
        real = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        video = real[0] if real else None
    return video


def _duration_seconds(container: InputContainer) -> float:
    """Duration by the header, else by reading all packets (e.g. WebM written to a pipe)."""
    if container.duration is not None:
        return container.duration / MICROSECONDS
    start_seconds = (container.start_time or 0) / MICROSECONDS
    end_seconds = start_seconds
    for packet in container.demux():
        if packet.pts is not None and packet.time_base is not None:
            ticks = packet.pts + (packet.duration or 0)
            end_seconds = max(end_seconds, float(ticks * packet.time_base))
    return end_seconds - start_seconds
