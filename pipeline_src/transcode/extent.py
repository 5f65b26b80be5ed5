"""Where the streams of a file begin and end, and what lies between, by their packets.

Nothing is decoded. Times are those that ffmpeg gives the file when it reads it from its start: in
containers whose clock may begin anew or jump (MPEG-TS, MPEG-PS, Ogg) it lets the clock
continue from where it was, and so does ``Clock``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.stream import Discard, Stream

from pipeline_src.transcode.foreign import ByteRange, ForeignPackets
from pipeline_src.transcode.frame_heads import FrameTimes, Span

# Of ffmpeg: a step further than this is a jump (-dts_delta_threshold), one back a new beginning;
# where a clock may not jump, a step further than that is no time (-dts_error_threshold).
JUMP_SECONDS = 10.0
ERROR_SECONDS = 108_000.0
BACK_SECONDS = 0.1
# A step back that no rounding explains, in a container whose clock may not do so.
RETURN_SECONDS = 1.0
# Less than this between two packets is a container's rounding.
HOLE_SECONDS = 0.1
# A packet that lasts this many times as long as the usual one has a hole after it (MP4).
LONG_PACKET = 4
WRAPPED_TICKS = 1 << 32
MAX_PACKET_SECONDS = 3600.0
# What containers write before a packet.
MAX_HEAD_BYTES = 64
# Elsewhere one picture may stand as long as it likes.
EVEN = {"avi"}


class Moment(NamedTuple):
    """A packet's time."""

    start_seconds: float
    end_seconds: float


class CutPacket(NamedTuple):
    """The packet that the file ends within.

    Args:
        first_byte: where in the file it begins.
        from_seconds: from where on the file lacks something for it, in the file's own time.
        is_picture: whether it holds a picture.
    """

    first_byte: int
    from_seconds: float
    is_picture: bool


@dataclass(frozen=True)
class Extent:
    """What the packets of the streams in use tell, in the file's own time.

    Args:
        audio_seconds, video_seconds: start and end; None without packets.
        last_picture_seconds: start of the last picture.
        holes: start and end of what no packet of sound covers, between its start and its end.
        picture_holes: the same of the picture, where its rate cannot vary.
        num_jumps: how often the clock began anew or jumped, and was made continuous.
        num_returns: how often it began anew where ffmpeg does not expect it: what follows is lost.
        num_untimed: packets before the first of their stream that has a time, and such of which
            ffmpeg does not believe the time: far from the one before.
        num_marked: packets that the container calls incomplete.
        foreign: first and last byte in the file of packets of sound that hold none.
        last_byte: where in the file the last packet begins; 0 where the container does not say.
        joint_byte: where a second file begins that libav takes for media; what follows is left out.
        promised_end_seconds: end by its head of a file with fewer bytes than that states; else 0.
        misfits: start and end of sound of another rate whose times do not fit it.
        cut_packet: what the end of the file cuts in two, where the container says so.
    """

    audio_seconds: Span | None
    video_seconds: Span | None
    last_picture_seconds: float
    holes: tuple[Span, ...]
    picture_holes: tuple[Span, ...]
    num_jumps: int
    num_returns: int
    num_untimed: int
    num_marked: int
    foreign: tuple[ByteRange, ...]
    last_byte: int
    joint_byte: int | None = None
    promised_end_seconds: float = 0.0
    misfits: tuple[Span, ...] = ()
    cut_packet: CutPacket | None = None

    @property
    def start_seconds(self) -> float:
        """Where the first of the streams begins; 0 without packets."""
        return min((span[0] for span in self._spans), default=0.0)

    @property
    def end_seconds(self) -> float:
        """Where the last of the streams ends; 0 without packets."""
        return max((span[1] for span in self._spans), default=0.0)

    @property
    def _spans(self) -> list[Span]:
        return [span for span in (self.audio_seconds, self.video_seconds) if span]


class Clock:
    """ffmpeg's clock of a file: where each packet lies on it."""

    def __init__(self, may_jump: bool) -> None:
        self.num_jumps = self.num_returns = self.num_untimed = 0
        self._may_jump = may_jump
        self._offset = 0.0
        self._last: float | None = None
        self._before: dict[int, float] = {}
        self._next: dict[int, float] = {}

    def place(self, packet: Packet) -> Moment | None:
        """Place a packet in time: one without a time follows the one before it, or is None."""
        seconds = float(packet.time_base or 0)
        length = _length(packet, seconds)
        index = packet.stream_index
        shown = packet.dts if packet.pts is None else packet.pts
        decoded = shown if packet.dts is None else packet.dts
        if shown is None or decoded is None:
            self.num_untimed += index not in self._before
            expected = self._next.get(index)
            self._next[index] = (expected or 0.0) + length
            return None if expected is None else Moment(expected, expected + length)
        if self._may_jump:
            self._close_jump(index, decoded * seconds)
        now = decoded * seconds + self._offset
        self.num_untimed += now > self._before.get(index, math.inf) + ERROR_SECONDS
        self.num_returns += now + RETURN_SECONDS < self._before.get(index, -math.inf)
        self._last = self._before[index] = now
        self._next[index] = now + length
        start = shown * seconds + self._offset
        return Moment(start, start + length)

    def _close_jump(self, index: int, decoded_seconds: float) -> None:
        """Move the clock where ``decoded_seconds`` does not follow what came before."""
        now = decoded_seconds + self._offset
        expected = self._next.get(index, self._last)
        if expected is None:
            return
        is_back = now + BACK_SECONDS < self._before.get(index, -math.inf)
        if abs(now - expected) > JUMP_SECONDS or is_back:
            self._offset -= now - expected
            self.num_jumps += 1


def _length(packet: Packet, tick_seconds: float) -> float:
    """Return a packet's length; 0 where libav gives one below 0 without its sign (joined Ogg)."""
    ticks = packet.duration or 0
    is_wrapped = WRAPPED_TICKS // 2 <= ticks < WRAPPED_TICKS
    seconds = ticks * tick_seconds
    return 0.0 if is_wrapped and seconds > MAX_PACKET_SECONDS else seconds


def measure(
    container: InputContainer,
    audio: AudioStream,
    video: Stream | None,
    joint_byte: int | None = None,
    media_end: int | None = None,
) -> Extent:
    """Read the packets from where ``container`` stands to the end.

    Args:
        joint_byte: of a second file, where reading ends.
        media_end: byte behind which only tags or zeros follow, where it ends too.
    """
    streams = [stream for stream in (audio, video) if stream is not None]
    clock = Clock(may_jump(container))
    moments: dict[int, list[Moment]] = {stream.index: [] for stream in streams}
    foreign = ForeignPackets(audio, container.format.name)
    times = FrameTimes(audio.codec_context.name)
    num_marked = last_byte = 0
    cut_packet: CutPacket | None = None
    for packet in read_packets(container, streams):
        position = packet.pos or 0
        if joint_byte is not None and position + packet.size > joint_byte:
            break
        if media_end is not None and position >= media_end:
            break
        num_marked += packet.is_corrupt
        last_byte = max(last_byte, position)
        if packet.is_discard or not packet.size:
            continue
        if packet.stream_index == audio.index:
            if foreign.takes(packet):
                continue
            if other := foreign.find_other_rate(packet):
                joint_byte = other
                break
        moment = clock.place(packet)
        if moment is not None:
            if _is_cut(packet, container):
                # Pictures that would follow it may be shown before it.
                ends = (one.end_seconds for one in moments[packet.stream_index])
                begin = min(moment.start_seconds, max(ends, default=math.inf))
                cut_packet = CutPacket(position, begin, packet.stream_index != audio.index)
            moments[packet.stream_index].append(moment)
            if packet.stream_index == audio.index:
                times.see(packet, moment.start_seconds)
    sound = _lengthened(moments[audio.index])
    pictures = _shown(moments[video.index], video) if video else []
    is_even = container.format.name in EVEN
    return Extent(
        audio_seconds=_span(sound),
        video_seconds=_span(pictures),
        last_picture_seconds=max((start for start, _ in pictures), default=0.0),
        holes=tuple(_holes(sound)),
        picture_holes=tuple(_holes(pictures)) if is_even else (),
        num_jumps=clock.num_jumps,
        num_returns=clock.num_returns + _num_stopped(container, audio, sound),
        num_untimed=clock.num_untimed,
        num_marked=num_marked,
        foreign=foreign.finish(),
        last_byte=last_byte,
        joint_byte=joint_byte,
        misfits=times.finish(),
        cut_packet=cut_packet,
    )


def _is_cut(packet: Packet, container: InputContainer) -> bool:
    """Return whether the file ends within a packet, where no other packets are marked."""
    if not packet.is_corrupt or not packet.pos or may_jump(container):
        return False
    return packet.pos + packet.size + MAX_HEAD_BYTES >= container.size


def _num_stopped(container: InputContainer, audio: AudioStream, sound: list[Moment]) -> int:
    """Count packets for which no time is left: those of Opus in Ogg after the end that it states.

    A joined file states an end for each part; of a part of one page it is an end too early.
    """
    if not (may_jump(container) and audio.time_base):
        return 0
    tick = float(audio.time_base)
    lengths = [end - start for start, end in sound if end > start]
    usual = median_low([length for length in lengths if length > LONG_PACKET * tick] or [0.0])
    num_stopped = sum(length < 1.5 * tick for length in lengths)
    return num_stopped if num_stopped * usual > HOLE_SECONDS else 0


def may_jump(container: InputContainer) -> bool:
    """Return whether the format's clock may begin anew."""
    return bool(container.format.flags & Flags.ts_discont.value)


def read_packets(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet]:
    """Yield the packets of ``streams`` to the end, or to where the file is damaged."""
    for stream in container.streams:
        stream.discard = Discard.default if stream in streams else Discard.all
    try:
        yield from container.demux(*streams)
    except FFmpegError:  # decoding judges that
        return
    except IndexError:  # PyAV, at the end of a file in which a stream began midway
        return


def _span(moments: Sequence[Moment]) -> Span | None:
    if not moments:
        return None
    return min(start for start, _ in moments), max(end for _, end in moments)


def _lengthened(moments: list[Moment]) -> list[Moment]:
    """Give packets of which none tells its length that of the usual step between them."""
    steps = [after.start_seconds - one.start_seconds for one, after in pairwise(moments)]
    if not steps or any(end > start for start, end in moments):
        return moments
    usual = max(0.0, median_low(steps))
    return [Moment(start, start + usual) for start, _ in moments]


def _shown(moments: list[Moment], video: Stream) -> list[Moment]:
    """Give pictures without a length that of one picture at the usual rate."""
    rate = float(getattr(video, "average_rate", None) or 0)
    least = 1 / rate if rate else 0.0
    return [Moment(start, max(end, start + least)) for start, end in moments]


def _holes(moments: Sequence[Moment]) -> Iterator[Span]:
    """Find what no packet covers; one that claims far too long ends after the usual time."""
    lengths = [end - start for start, end in moments if end > start]
    longest = LONG_PACKET * median_low(lengths) if lengths else 0.0
    covered = math.inf
    for start, end in sorted(moments):
        if start > covered + HOLE_SECONDS:
            yield covered, start
        is_long = end - start > max(longest, HOLE_SECONDS)
        last = start + longest / LONG_PACKET if is_long else end
        covered = last if covered == math.inf else max(covered, last)
