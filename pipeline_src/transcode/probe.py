"""What a raw file holds, by PyAV: streams to use, duration, codecs, or the reason it is useless."""

import contextlib
import functools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.error import FFmpegError, PatchWelcomeError
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from pipeline_src.errors import MediaError
from pipeline_src.transcode.boxes import promised_seconds
from pipeline_src.transcode.extent import Extent, measure
from pipeline_src.transcode.filters import Look
from pipeline_src.transcode.foreign import TAKE_TAGS, find_media_end
from pipeline_src.transcode.formats import (
    CONTAINERS,
    INPUT_OPTIONS,
    check_byte_order,
    check_container,
    input_url,
)
from pipeline_src.transcode.frame_heads import has_another_rate, has_heads
from pipeline_src.transcode.lead import LEAD_OPTION, find_lead
from pipeline_src.transcode.length import MICROSECONDS, Length, find_length, header_seconds
from pipeline_src.transcode.rest import find_swallowed
from pipeline_src.transcode.stated_size import stated_seconds

__all__ = ["CONTAINERS", "MediaInfo", "Picture", "open_container", "probe_file", "stream_kinds"]

ERROR_NUMBER = re.compile(r"\[Errno \d+\] ")  # four letters of ffmpeg, as a number
# libav's numbers: field orders of interlaced pictures, and transfers of high dynamic range.
INTERLACED = (2, 3, 4, 5)
TRANSFERS = {16: "smpte2084", 18: "arib-std-b67"}
# Of a pixel format that the header does not tell.
UNKNOWN_BITS_PER_PIXEL = 24
# Decoders add at most this to each side of a picture; measured up to 232.
EDGE_PIXELS = 256
# Of pictures beside a video.
STILL_CODECS = {"bmp", "gif", "mjpeg", "png", "tiff", "webp"}
# Rates that differ by less than this part are one rate.
EVEN_RATE = 0.02
# Of a varying rate a single picture may be shown as long as this many.
UNEVEN_FRAMES = 4


@dataclass(frozen=True)
class Picture:
    """Size of a decoded picture in pixels; 0 x 0 where there is none or the header does not say."""

    width: int
    height: int
    bytes_per_pixel: float

    @classmethod
    def up_to(cls, num_pixels: int, bytes_per_pixel: float) -> "Picture":
        """Return the largest picture of so many pixels; its shape does not matter."""
        side = math.isqrt(num_pixels)
        return cls(side, side, bytes_per_pixel)

    @property
    def num_pixels(self) -> int:
        """Visible ones."""
        return self.width * self.height

    @property
    def decoder_pixels(self) -> int:
        """What a decoder may allocate for it."""
        return (self.width + EDGE_PIXELS) * (self.height + EDGE_PIXELS)

    @property
    def num_bytes(self) -> float:
        """What it takes in memory."""
        return self.num_pixels * self.bytes_per_pixel


@dataclass(frozen=True)
class MediaInfo:
    """A usable file.

    Args:
        audio_index, video_index: stream numbers in the container; None = no video is wanted.
        containers: the format's names.
        length: of these streams.
        fps: average frame rate, 0.0 where unknown or without video.
        audio_indices: of all tracks of sound that can be decoded, the best one first.
        look: what must be done to the pictures.
        is_ambisonic: the sound is that of a sphere; its first channel, W, is what a listener in the
            middle hears.
        frame_seconds: how long one picture may be shown; 0.0 likewise.
    """

    audio_index: int
    video_index: int | None
    containers: frozenset[str]
    length: Length
    fps: float
    frame_seconds: float
    audio_codec: str
    video_codec: str
    picture: Picture
    is_ambisonic: bool
    audio_indices: tuple[int, ...]
    look: Look


def probe_file(
    path: Path,
    *,
    max_pixels: int,
    needs_video: bool = True,
    end_seconds: float | None = None,
    distrusts_header: bool = False,
) -> MediaInfo:
    """Look into a file without decoding it.

    Args:
        max_pixels: larger pictures are refused.
        end_seconds: of the clip, None = the file's end.
        distrusts_header: the length is that of the packets, whatever the header says.
        needs_video: False looks at the sound alone, whether there is video or not.
    Raises:
        MediaError: corrupt (no known container, no packets), no_audio, no_video, unsupported.
    """
    with open_container(path, max_pixels) as container:
        if "wav" in container.format.name:
            check_byte_order(path)
        audio, video = _used_streams(container, needs_video)
        length = find_length(
            container,
            [stream for stream in (audio, video) if stream is not None],
            end_seconds,
            lambda: _measure(path, max_pixels, audio.index, video.index if video else None),
            distrusts=distrusts_header,
        )
        probe = _describe(container, audio, video, length)
    if probe.picture.num_pixels > max_pixels:
        size = f"{probe.picture.width}x{probe.picture.height}"
        raise MediaError("unsupported", f"{size} pixels; media.max_pixels={max_pixels}")
    return probe


def stream_kinds(path: Path, max_pixels: int) -> set[str]:
    """Tell which of ``audio`` and ``video`` a file has; a cover is no video.

    Raises:
        MediaError: corrupt, unsupported.
    """
    with open_container(path, max_pixels) as container:
        has = {"audio": bool(container.streams.audio), "video": _video_stream(container)}
    return {kind for kind, found in has.items() if found}


def begins_at_another_rate(
    path: Path, probe: MediaInfo, start_seconds: float, max_pixels: int
) -> bool:
    """Return whether sound at a clip's start has another rate than the file's first.

    Decoding from there does not see a change. Packets that were read have told.
    """
    is_told = probe.length.is_measured or not start_seconds
    if is_told or not has_heads(probe.audio_codec):
        return False
    with open_container(path, max_pixels) as container:
        (audio,) = (s for s in container.streams.audio if s.index == probe.audio_index)
        own_seconds = start_seconds + probe.length.own_zero_seconds
        return has_another_rate(container, audio, round(own_seconds * MICROSECONDS))


@contextmanager
def open_container(path: Path, max_pixels: int) -> Iterator[InputContainer]:
    """Open a file for its packets; where a header is incomplete, libav decodes a few of them.

    Raises:
        MediaError: corrupt, also where reading fails within the ``with`` block; unsupported.
    """
    limit = Picture.up_to(max_pixels, UNKNOWN_BITS_PER_PIXEL / 8).decoder_pixels
    options = {**INPUT_OPTIONS, "max_pixels": str(limit)}
    try:
        with contextlib.ExitStack() as stack:
            container = stack.enter_context(_open(path, options))
            if lead := find_lead(path, container.format.name):
                container.close()
                container = stack.enter_context(_open(path, {**options, LEAD_OPTION: str(lead)}))
            yield container
    except PatchWelcomeError as error:
        raise MediaError("unsupported", f"a form that ffmpeg does not read: {error}") from error
    except (FFmpegError, OSError, UnicodeDecodeError, ValueError) as error:
        check_container(path)
        said = ERROR_NUMBER.sub("", str(error))
        raise MediaError("corrupt", f"cannot be opened: {said}") from error


def _open(path: Path, options: dict[str, str]) -> InputContainer:
    return av.open(input_url(path), options=options, metadata_errors="replace")


def _used_streams(
    container: InputContainer, needs_video: bool
) -> tuple[AudioStream, VideoStream | None]:
    video = _video_stream(container)
    audio = container.streams.best("audio", related=video)  # of the same programme of a broadcast
    if not container.streams.audio and video is None:
        raise MediaError("corrupt", "neither an audio nor a video stream")
    if not isinstance(audio, AudioStream):
        raise MediaError("no_audio", "no audio stream")
    if not needs_video:
        video = None
    elif video is None:
        raise MediaError("no_video", "no video stream")
    for stream in (audio, video):
        if stream is not None and stream.codec_context is None:
            raise MediaError("unsupported", f"no decoder for the {stream.type} stream")
    return audio, video


def _describe(
    container: InputContainer, audio: AudioStream, video: VideoStream | None, length: Length
) -> MediaInfo:
    if length.end_seconds <= 0:
        raise MediaError("corrupt", "holds no media")
    return MediaInfo(
        audio_index=audio.index,
        video_index=None if video is None else video.index,
        containers=frozenset(container.format.name.split(",")),
        length=length,
        fps=float(video.average_rate or 0) if video else 0.0,
        frame_seconds=_frame_seconds(video) if video else 0.0,
        audio_codec=audio.codec_context.name,
        video_codec=video.codec_context.name if video else "",
        picture=_picture(video) if video else Picture(0, 0, 0.0),
        is_ambisonic=_is_ambisonic(audio.codec_context),
        audio_indices=(audio.index, *_further_tracks(container, audio)),
        look=_look(video) if video else Look(),
    )


def _further_tracks(container: InputContainer, best: Stream) -> list[int]:
    """List other sounds that may stand for ``best``, none of another programme of a broadcast."""
    picture = container.streams.best("video", related=best)
    return [
        track.index
        for track in container.streams.audio
        if track is not best
        and track.codec_context
        and container.streams.best("video", related=track) is picture
    ]


def _look(video: VideoStream) -> Look:
    decoder = video.codec_context
    return Look(decoder.field_order in INTERLACED, TRANSFERS.get(decoder.color_trc, ""))


def _is_ambisonic(decoder: CodecContext) -> bool:
    return isinstance(decoder, AudioCodecContext) and decoder.layout.name.startswith("ambisonic")


def _measure(path: Path, max_pixels: int, audio_index: int, video_index: int | None) -> Extent:
    """Read all packets, once for all clips of a file."""
    status = path.stat()
    version = (status.st_mtime_ns, status.st_size)
    return _measure_version(path, version, max_pixels, audio_index, video_index)


@functools.lru_cache(maxsize=64)
def _measure_version(
    path: Path,
    version: tuple[int, int],
    max_pixels: int,
    audio_index: int,
    video_index: int | None,
) -> Extent:
    with open_container(path, max_pixels) as container:
        streams = container.streams
        (audio,) = (stream for stream in streams.audio if stream.index == audio_index)
        video = None if video_index is None else streams[video_index]
        containers = frozenset(container.format.name.split(","))
        media_end = find_media_end(path) if containers & TAKE_TAGS else None
        extent = measure(container, audio, video, find_swallowed(path, containers), media_end)
        promised = promised_seconds(path) if "mov" in containers else 0.0
        promised = promised or stated_seconds(path, containers, header_seconds(container))
    return replace(extent, promised_end_seconds=promised)


def _frame_seconds(video: VideoStream) -> float:
    """Return the time of a frame at the usual rate; of several where the rate varies."""
    rate, usual = float(video.average_rate or 0), float(video.guessed_rate or 0)
    if not rate:
        return 0.0
    is_even = abs(usual - rate) < EVEN_RATE * rate
    return (1 if is_even else UNEVEN_FRAMES) / rate


def _picture(video: VideoStream) -> Picture:
    decoder = video.codec_context
    bits = decoder.format.padded_bits_per_pixel if decoder.format else UNKNOWN_BITS_PER_PIXEL
    return Picture(decoder.width, decoder.height, bits / 8)


def _video_stream(container: InputContainer) -> VideoStream | None:
    """Return the best video stream that is no cover picture, also where it is not marked as one."""
    real = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    moving = [s for s in real if not (s.codec_context and s.codec_context.name in STILL_CODECS)]
    best = container.streams.best("video")
    wanted = moving or real
    return next((stream for stream in wanted if stream is best), wanted[0] if wanted else None)
