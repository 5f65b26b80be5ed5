"""How long a file is, by the streams that are used: from its tables, or else from its packets.

Only MP4 and MOV list every sample, and not where they are fragments. Elsewhere the header may have
been guessed (MP3, AAC), count from a zero that is not in the file (pieces of a stream), or speak of
subtitles. It is believed for a clip that ends within it, because decoding tells if that was wrong.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition, Stream

from pipeline_src.transcode.extent import HOLE_SECONDS, Extent, may_jump
from pipeline_src.transcode.frame_heads import Span, usual_samples

MICROSECONDS = 1_000_000
# What a header may differ by from the streams: about a packet of sound.
HEADER_TOLERANCE_SECONDS = 0.1
# A header that agrees with the packets is more exact than these.
AGREEMENT_SECONDS = 0.05
# An edit list hides more of the sound than an encoder's delay: ffmpeg would hide as much of it
# after a seek.
HIDDEN_SECONDS = 0.25
# Rounding of the times that containers store.
CLOCK_TOLERANCE_SECONDS = 0.02
TABLES = {"mov", "mp4"}
# Their headers count the samples.
COUNTED = {"aiff", "au", "flac", "mxf", "tta", "wv"}
# No time of a packet is certain after a seek: FLAC in Ogg is up to a second off.
SEEKS_ROUGHLY = {"ogg"}
# A second file joined to one is where a seek ends.
SEEKS_FOREIGN = {"nut"}
# What a header says of these is a guess, or ends where the first of several pieces does.
GUESSED = Flags.ts_discont.value | Flags.generic_index.value


class Length(NamedTuple):
    """Times on the file's clock, whose 0 is where its first picture or sound lies.

    Args:
        begin_seconds, end_seconds: of the streams in use.
        own_zero_seconds: that 0 in the file's own time.
        zero_seconds: the same where ffmpeg would take another one; else None.
        seeks: whether times are right after a seek.
        extent: what the packets tell, in the file's own time; None where they were not read.
        audio_begin_seconds: of the sound, if it is known to begin late.
        video_end_seconds: of the picture; None where it is not known.
        is_dense: whether the tables of the file rule out holes in the sound.
        clock_index: stream that begins before all that are in use, where ffmpeg would else move its
            zero; None where it would not.
        misfits: start and end of sound whose times do not fit it.
        stated_end_seconds: end by a header that counts samples, or of more bytes than there are,
            which a file that was cut off has no longer; not above 0 where there is none.
    """

    begin_seconds: float
    end_seconds: float
    own_zero_seconds: float
    zero_seconds: float | None
    seeks: bool
    extent: Extent | None
    audio_begin_seconds: float = 0.0
    video_end_seconds: float | None = None
    is_dense: bool = False
    stated_end_seconds: float = 0.0
    clock_index: int | None = None
    misfits: tuple[Span, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether by packets."""
        return self.extent is not None


def find_length(
    container: InputContainer,
    used: list[Stream],
    listed_end_seconds: float | None,
    measure: Callable[[], Extent],
    *,
    distrusts: bool = False,
) -> Length:
    """Return the length by the header, or by the packets where it cannot be trusted.

    Args:
        used: streams of the clip.
        listed_end_seconds: of the clip, None = the file's end.
        measure: reads the packets.
        distrusts: never believe the header.
    """
    own_zero = (container.start_time or 0) / MICROSECONDS
    names = set(container.format.name.split(","))
    zero = _first_start(container, own_zero)
    is_hidden = bool(names & TABLES) and zero < -HIDDEN_SECONDS
    zero = 0.0 if is_hidden else zero
    is_moved = abs(zero - own_zero) > CLOCK_TOLERANCE_SECONDS
    zero = zero if is_moved else own_zero
    if not distrusts and not is_moved:
        if names & TABLES and (length := _by_tables(container, used, own_zero)):
            return length._replace(misfits=_misfits_by_tables(used, own_zero, measure))
        is_timed = all(stream.start_time is not None for stream in used)
        is_alone = not names & SEEKS_FOREIGN
        if is_timed and is_alone and _is_within(container, own_zero, listed_end_seconds):
            end = header_seconds(container)
            return Length(0.0, end, own_zero, None, not names & SEEKS_ROUGHLY, None)
    extent = measure()
    begin = _late(extent.start_seconds - zero)
    # Matroska of before 0 is not found again
    is_negative = zero < -HEADER_TOLERANCE_SECONDS
    is_joined = extent.joint_byte is not None
    is_rough = is_hidden or bool(names & SEEKS_ROUGHLY)
    seeks = not (is_rough or extent.num_jumps or is_negative or is_joined)
    # ffmpeg itself would move the zero to the first stream that is decoded
    is_moved = is_moved or extent.start_seconds - zero > CLOCK_TOLERANCE_SECONDS
    own = zero if is_moved else None
    video_end = extent.video_seconds[1] - zero if extent.video_seconds else None
    audio_begin = extent.audio_seconds[0] - zero if extent.audio_seconds else 0.0
    end = extent.end_seconds - zero
    if abs(end - header_seconds(container)) <= AGREEMENT_SECONDS:
        end = header_seconds(container)  # it knows of padding within the last packet
    stated = _stated_seconds(container, used, zero, extent)
    clock = _earlier_stream(container, used) if is_moved else None
    return Length(
        begin,
        end,
        zero,
        own,
        seeks,
        extent,
        audio_begin,
        video_end,
        stated_end_seconds=stated,
        clock_index=clock,
        misfits=_on_clock(extent, zero),
    )


def _misfits_by_tables(
    used: list[Stream], zero: float, measure: Callable[[], Extent]
) -> tuple[Span, ...]:
    """Look for sound whose times do not fit where tables list more of it than they have time for.

    An edit list may hide as much.
    """
    (excess,) = (_excess_seconds(stream, guesses=True) for stream in used if stream.type == "audio")
    return _on_clock(measure(), zero) if excess > HIDDEN_SECONDS else ()


def _on_clock(extent: Extent, zero: float) -> tuple[Span, ...]:
    return tuple((first - zero, last - zero) for first, last in extent.misfits)


def _stated_seconds(
    container: InputContainer, used: list[Stream], zero: float, extent: Extent
) -> float:
    """Return the end by counted samples, tables or what was promised; none is not above 0."""
    names = set(container.format.name.split(","))
    if names & COUNTED:
        return header_seconds(container)
    tables = _by_tables(container, used, zero) if names & TABLES else None
    return tables.end_seconds if tables else extent.promised_end_seconds - zero


def _earlier_stream(container: InputContainer, used: list[Stream]) -> int | None:
    """Find the stream with which a file begins whose clock may jump, if none in use does so."""
    if not may_jump(container):
        return None
    timed = [stream for stream in container.streams if stream.start_time is not None]
    first = min(timed, key=_start, default=None)
    if first is None or any(_start(stream) <= _start(first) for stream in used):
        return None
    return first.index


def _late(seconds: float) -> float:
    """Return a beginning that is later than rounding and padding make it; else 0."""
    return seconds if seconds > HOLE_SECONDS else 0.0


def _is_media(stream: Stream) -> bool:
    """Return whether a stream is sound or picture, not subtitles, data or a cover."""
    is_kind = stream.type in ("audio", "video")
    return is_kind and not stream.disposition & Disposition.attached_pic


def _first_start(container: InputContainer, default: float) -> float:
    """Return the start of the first sound or picture."""
    starts = [
        _start(stream)
        for stream in container.streams
        if _is_media(stream) and stream.start_time is not None
    ]
    return min(starts, default=default)


def _start(stream: Stream) -> float:
    return _seconds(stream, stream.start_time or 0)


def _seconds(stream: Stream, ticks: int) -> float:
    base = stream.time_base
    return ticks * base.numerator / base.denominator if base else 0.0


def header_seconds(container: InputContainer) -> float:
    """Return the length that the header states, or that libav guesses; 0 without."""
    return (container.duration or 0) / MICROSECONDS


def _by_tables(container: InputContainer, used: list[Stream], zero: float) -> Length | None:
    """Return the length by the tables of MP4, if these list samples and the header agrees.

    Libav counts the length of fragments from 0, wherever the first of them begins.
    """
    if not all(stream.frames for stream in used):
        return None
    ends = {
        stream.index: _start(stream) + _seconds(stream, stream.duration) - zero
        for stream in container.streams
        if _is_media(stream) and stream.start_time is not None and stream.duration
    }
    header = header_seconds(container)
    if not all(stream.index in ends for stream in used):
        return None
    if abs(max(ends.values()) - header) > HEADER_TOLERANCE_SECONDS:
        return None
    end = max(ends[stream.index] for stream in used)
    if abs(end - header) <= HEADER_TOLERANCE_SECONDS:
        end = header
    begin = _late(min(map(_start, used)) - zero)
    (audio_begin,) = (_start(stream) - zero for stream in used if stream.type == "audio")
    video_end = next((ends[stream.index] for stream in used if stream.type == "video"), None)
    (excess,) = (_excess_seconds(stream) for stream in used if stream.type == "audio")
    is_dense = excess >= -HOLE_SECONDS
    seeks = excess <= HIDDEN_SECONDS
    return Length(begin, end, zero, None, seeks, None, audio_begin, video_end, is_dense)


def _excess_seconds(stream: Stream, *, guesses: bool = False) -> float:
    """Measure how much longer the frames of an audio stream are than the stream itself.

    Args:
        guesses: take the usual length of a frame where the tables do not tell.
    """
    if not isinstance(stream, AudioStream) or not stream.duration:
        return 0.0
    codec = stream.codec_context
    frame = codec.frame_size or (usual_samples(codec.name) if guesses else 0)
    seconds = stream.frames * frame / codec.sample_rate
    return seconds - _seconds(stream, stream.duration)


def _is_within(container: InputContainer, zero: float, end_seconds: float | None) -> bool:
    """Return whether a clip ends within what a trusted kind of header promises."""
    return (
        not container.format.flags & GUESSED
        and abs(zero) <= HEADER_TOLERANCE_SECONDS
        and (math.inf if end_seconds is None else end_seconds)
        <= header_seconds(container) - HEADER_TOLERANCE_SECONDS
    )
