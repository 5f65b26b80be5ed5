"""What frames of sound say of themselves: their rate and how many samples they hold.

A container has one rate for a stream. Where frames of another one follow, as in joined files, it
may go on to stamp them at the first rate: then their times are wrong, which only they tell.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard

HEAD_BYTES = 10
MPEG_RATES_HZ = (44100, 48000, 32000)
# By MPEG-2.5, none, MPEG-2 and MPEG-1: the rates above are shifted.
MPEG_SHIFTS = (2, None, 1, 0)
AC3_RATES_HZ = (48000, 44100, 32000)
AC3_BLOCKS = (1, 2, 3, 6)
AC3_BLOCK = 256
ADTS_RATES_HZ = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
ADTS_BLOCK = 1024
FLAC_RATES_HZ = {
    **{1: 88200, 2: 176400, 3: 192000, 4: 8000, 5: 16000, 6: 22050, 7: 24000, 8: 32000},
    **{9: 44100, 10: 48000, 11: 96000},
}
DTS_SYNC = b"\x7f\xfe\x80\x01"
DTS_RATES_HZ = {
    **{1: 8000, 2: 16000, 3: 32000, 6: 11025, 7: 22050, 8: 44100},
    **{11: 12000, 12: 24000, 13: 48000},
}
# Times that are further off than this do not fit; a codec's delay is less.
MAX_DRIFT_SECONDS = 0.06

Span = tuple[float, float]


class FrameHead(NamedTuple):
    """The head of a frame."""

    rate_hz: int
    num_samples: int

    @property
    def seconds(self) -> float:
        """How long the frame lasts."""
        return self.num_samples / self.rate_hz


def read_mpeg(head: bytes) -> FrameHead | None:
    """Read the head of a frame of MPEG audio; None where it is none."""
    version, layer, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 2 & 3
    shift = MPEG_SHIFTS[version]
    if head[0] != 0xFF or head[1] < 0xE0 or shift is None or not layer or rate == 3:
        return None
    samples = {3: 384, 2: 1152, 1: 576 if shift else 1152}[layer]
    return FrameHead(MPEG_RATES_HZ[rate] >> shift, samples)


def _ac3(head: bytes) -> FrameHead | None:
    rate, kind = head[4] >> 6, head[5] >> 3
    if head[:2] != b"\x0b\x77" or kind > 16:
        return None
    if kind <= 10:
        hz = None if rate == 3 else AC3_RATES_HZ[rate] >> max(0, kind - 8)
        return FrameHead(hz, AC3_BLOCKS[-1] * AC3_BLOCK) if hz else None
    second = head[4] >> 4 & 3
    if rate < 3:
        return FrameHead(AC3_RATES_HZ[rate], AC3_BLOCKS[second] * AC3_BLOCK)
    return FrameHead(AC3_RATES_HZ[second] // 2, AC3_BLOCKS[-1] * AC3_BLOCK) if second < 3 else None


def _adts(head: bytes) -> FrameHead | None:
    rate = head[2] >> 2 & 15
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or rate >= len(ADTS_RATES_HZ):
        return None
    return FrameHead(ADTS_RATES_HZ[rate], ADTS_BLOCK * (1 + (head[6] & 3)))


def _flac(head: bytes) -> FrameHead | None:
    """Read what the first bytes tell; sizes further on are left out."""
    block, rate = head[2] >> 4, FLAC_RATES_HZ.get(head[2] & 15)
    if head[0] != 0xFF or head[1] & 0xFE != 0xF8 or not block or rate is None:
        return None
    if block >= 8:
        return FrameHead(rate, 256 << block - 8)
    return FrameHead(rate, 192 if block == 1 else 576 << block - 2) if block < 6 else None


def _dts(head: bytes) -> FrameHead | None:
    if head[:4] != DTS_SYNC:
        return None
    blocks = (head[4] & 1) << 6 | head[5] >> 2
    rate = DTS_RATES_HZ.get(head[8] >> 2 & 15)
    return FrameHead(rate, 32 * (blocks + 1)) if rate else None


READERS: Mapping[str, Callable[[bytes], FrameHead | None]] = {
    "mp1": read_mpeg,
    "mp2": read_mpeg,
    "mp3": read_mpeg,
    "ac3": _ac3,
    "eac3": _ac3,
    "flac": _flac,
    "dca": _dts,
    "aac": _adts,  # without that head within MP4 and Matroska
}


# Of a frame, where a container does not tell.
USUAL_SAMPLES = {"dca": 512, "ac3": AC3_BLOCKS[-1] * AC3_BLOCK, "eac3": AC3_BLOCKS[-1] * AC3_BLOCK}


def usual_samples(codec: str) -> int:
    """Return how many samples most frames of a codec hold; 0 where that differs."""
    return USUAL_SAMPLES.get(codec, 0)


def has_heads(codec: str) -> bool:
    """Return whether frames of a codec say what they are in any container.

    Those of AAC do not where a container's header is believed.
    """
    return codec != "aac" and codec.removesuffix("float") in READERS


class FrameTimes:
    """Where the times of a stream of sound do not fit its frames, of another rate than its first.

    A single frame of another rate is damaged.
    """

    def __init__(self, codec: str) -> None:
        self.misfits: list[Span] = []
        self._read = READERS.get(codec.removesuffix("float"))
        self._rate: int | None = None
        self._begin = self._due = 0.0
        self._num_other = 0
        self._is_misfit = False

    def see(self, packet: Packet, start_seconds: float) -> None:
        """Take the next packet of the stream and its time."""
        if self._read is None or (found := read_head(self._read, packet)) is None:
            return
        self._rate = self._rate or found.rate_hz
        if found.rate_hz == self._rate:
            self._close(start_seconds)
            return
        if not self._num_other:
            self._begin = self._due = start_seconds
        self._num_other += 1
        self._is_misfit |= abs(start_seconds - self._due) > MAX_DRIFT_SECONDS
        self._due += found.seconds

    def finish(self) -> tuple[Span, ...]:
        """Return start and end of what does not fit; the last may have no end."""
        self._close(float("inf"))
        return tuple(self.misfits)

    def _close(self, end_seconds: float) -> None:
        if self._is_misfit and self._num_other > 1:
            self.misfits.append((self._begin, end_seconds))
        self._num_other, self._is_misfit = 0, False


def read_head(read: Callable[[bytes], FrameHead | None], packet: Packet) -> FrameHead | None:
    """Read the head of a packet; None where it has none."""
    return read(bytes(memoryview(packet)[:HEAD_BYTES])) if packet.size >= HEAD_BYTES else None


def has_another_rate(container: InputContainer, audio: AudioStream, at: int) -> bool:
    """Return whether frames have another rate than the first ones, after a seek to ``at``.

    Args:
        at: in microseconds of the file's own time.
    """
    read = READERS[audio.codec_context.name.removesuffix("float")]
    for stream in container.streams:
        stream.discard = Discard.default if stream is audio else Discard.all
    try:
        first = next((read_head(read, packet) for packet in container.demux(audio)), None)
        container.seek(at)
        later = next((read_head(read, packet) for packet in container.demux(audio)), None)
    except FFmpegError:  # decoding judges that
        return False
    return bool(first and later and first.rate_hz != later.rate_hz)
