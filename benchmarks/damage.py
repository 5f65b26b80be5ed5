"""Seeded damage to clips: truncate, flip bits, blank, drop packets, shuffle tracks, shift clocks.

Each rule writes a new file and says by how much a stream's clock was shifted against the file's
start, which is all that may change what is shown and heard at a time.
"""

import functools
import io
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream

CONTAINERS = ("matroska", "mp4", "mpegts", "nut")
MAX_SHIFT_SECONDS = 3.0
COMPOSED = 0.3  # of the inputs are damaged twice


class Damaged(NamedTuple):
    """A file's bytes, the rules in their order, and how late sound and picture are in it."""

    data: bytes
    rules: tuple[str, ...]
    audio_shift_seconds: float = 0.0
    video_shift_seconds: float = 0.0


def damage(path: Path, seed: int) -> Damaged:
    """Damage the file by one rule or two; the same seed gives the same bytes."""
    rng = random.Random(seed)
    packet_rule, byte_rule = rng.choice(list(PACKET_RULES)), rng.choice(list(BYTE_RULES))
    rules = (packet_rule, byte_rule)
    if rng.random() > COMPOSED:
        rules = (rng.choice(rules),)
    result = Damaged(path.read_bytes(), rules)
    for rule in rules:
        if rule in PACKET_RULES:
            data, shifts = PACKET_RULES[rule](result.data, rng)
            result = result._replace(
                data=data, audio_shift_seconds=shifts["audio"], video_shift_seconds=shifts["video"]
            )
        else:
            result = result._replace(data=BYTE_RULES[rule](result.data, rng))
    return result


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: int(len(data) * rng.uniform(0.02, 0.99))]


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 4, 32, 256))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def blank(data: bytes, rng: random.Random) -> bytes:
    """A part of the file is zeros, as on a disk that lost blocks."""
    size = int(len(data) * rng.uniform(0.001, 0.1))
    start = rng.randrange(len(data) - size)
    return data[:start] + bytes(size) + data[start + size :]


Shifts = Mapping[str, float]
NO_SHIFTS: Shifts = {"audio": 0.0, "video": 0.0}


def drop_packets(data: bytes, rng: random.Random) -> tuple[bytes, Shifts]:
    share, kinds = rng.choice((0.01, 0.1, 0.4)), rng.choice((("audio",), ("video",), KINDS))

    def keep(packet: Packet) -> bool:
        return packet.stream.type not in kinds or rng.random() > share

    return _remux(data, rng, keep=keep), NO_SHIFTS


def shuffle_tracks(data: bytes, rng: random.Random) -> tuple[bytes, Shifts]:
    """Tracks in another order, some of them twice, and packets far from where they belong."""
    return _remux(data, rng, shuffle=True), NO_SHIFTS


def shift_clocks(data: bytes, rng: random.Random) -> tuple[bytes, Shifts]:
    """One clock or both begin later."""
    kinds = rng.choice((("audio",), ("video",), KINDS))
    seconds = rng.uniform(0.05, MAX_SHIFT_SECONDS)
    shifts = {kind: seconds * (kind in kinds) for kind in KINDS}
    changed = _remux(data, rng, shifts=shifts)
    earliest = min(shifts.values())
    return changed, {kind: shift - earliest for kind, shift in shifts.items()}


KINDS = ("audio", "video")
BYTE_RULES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    rule.__name__: rule for rule in (truncate, flip_bits, blank)
}
PACKET_RULES: dict[str, Callable[[bytes, random.Random], tuple[bytes, Shifts]]] = {
    rule.__name__: rule for rule in (drop_packets, shuffle_tracks, shift_clocks)
}


def _remux(
    data: bytes,
    rng: random.Random,
    *,
    keep: Callable[[Packet], bool] = lambda packet: True,
    shuffle: bool = False,
    shifts: Shifts = NO_SHIFTS,
) -> bytes:
    """The packets in a container drawn by chance; in Matroska where that does not take them."""
    drawn = rng.choice(CONTAINERS)
    state = rng.getstate()
    try:
        return _write(data, drawn, rng, keep, shuffle, shifts)
    except (FFmpegError, ValueError):
        rng.setstate(state)
        return _write(data, "matroska", rng, keep, shuffle, shifts)


def _write(
    data: bytes,
    name: str,
    rng: random.Random,
    keep: Callable[[Packet], bool],
    shuffle: bool,
    shifts: Shifts,
) -> bytes:
    target = io.BytesIO()
    exact = {"fflags": "+bitexact"}  # no numbers drawn by the muxer
    with (
        av.open(io.BytesIO(data), "r") as source,
        av.open(target, "w", format=name, options=exact) as sink,
    ):
        streams = list(source.streams)
        if shuffle:
            streams += rng.sample(streams, rng.randrange(len(streams) + 1))
            rng.shuffle(streams)
        add = functools.partial(sink.add_stream_from_template, opaque=True)
        tracks = [(stream, add(stream)) for stream in streams]
        for packet in _packets(source, rng if shuffle else None):
            if not keep(packet):
                continue
            for track in [track for stream, track in tracks if stream is packet.stream]:
                sink.mux_one(_copy(packet, track, shifts[packet.stream.type]))
    return target.getvalue()


def _copy(packet: Packet, track: Stream, late_seconds: float) -> Packet:
    pts, dts, time_base = packet.pts, packet.dts, packet.time_base
    if pts is None or dts is None or time_base is None:
        raise ValueError("a packet without a time")
    ticks = round(late_seconds / time_base)
    copy = Packet(bytes(packet))
    copy.time_base, copy.duration = time_base, packet.duration
    copy.pts, copy.dts = pts + ticks, dts + ticks
    copy.is_keyframe = packet.is_keyframe
    copy.stream = track
    return copy


def _packets(source: InputContainer, rng: random.Random | None) -> Iterator[Packet]:
    packets = [p for p in source.demux() if p.dts is not None and p.pts is not None]
    if rng is not None and rng.random() < 0.5:  # first all of one kind
        packets.sort(key=lambda packet: packet.stream.type, reverse=rng.random() < 0.5)
    return iter(packets)
