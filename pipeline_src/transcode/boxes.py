"""Boxes of MP4 and MOV files: further tables, and fragments that are listed but not there."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

BOX_HEAD_BYTES = 8
# A box of this size says it in 8 further bytes; one of size 0 is the last.
LARGE_BOX = 1
# Fragments of a long stream.
MAX_BOXES = 100_000
MAX_TABLE_BYTES = 64_000_000
# The track and the time of a fragment stand at its head.
FRAGMENT_HEAD_BYTES = 1_000
# Of an index of fragments: its head in two versions, and one fragment.
INDEX_HEADS = (struct.Struct(">8xIII2xH"), struct.Struct(">8xIQQ2xH"))
FRAGMENT = struct.Struct(">III")
SIZE_BITS = 0x7FFFFFFF


def find_boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, first byte and size of each box that is whole."""
    end = stream.seek(0, 2)
    at = 0
    for _ in range(MAX_BOXES):
        stream.seek(at)
        head = stream.read(2 * BOX_HEAD_BYTES)
        size, kind = int.from_bytes(head[:4], "big"), head[4:BOX_HEAD_BYTES]
        if size == LARGE_BOX:
            size = int.from_bytes(head[BOX_HEAD_BYTES:], "big")
        if size < BOX_HEAD_BYTES or at + size > end:
            return
        yield kind, at, size
        at += size


def find_second_movie(path: Path) -> int | None:
    """Find further tables, or fragments of before those in front of them, which libav leaves out.

    A stream of fragments may repeat its tables, but its time continues then.
    """
    begin, tables = 0, b""
    joint = None
    latest: dict[int, int] = {}
    with path.open("rb") as stream:
        for kind, at, size in find_boxes(stream):
            if kind == b"ftyp":
                begin = at
            elif kind == b"moov":
                content, before = _read(stream, at, size), tables
                if before and (content != before or (begin and not latest)):
                    return begin or at
                joint, tables = (begin or at) if before else None, content
            elif kind == b"moof":
                track, time = _fragment_time(_read(stream, at, min(size, FRAGMENT_HEAD_BYTES)))
                if time < latest.get(track, 0) or (joint and time <= latest.get(track, -1)):
                    return joint or at
                joint, latest[track] = None, time
    return None


def is_encrypted(path: Path) -> bool:
    """Return whether the tables say that sound or pictures are encrypted (Common Encryption)."""
    with path.open("rb") as stream:
        tables = [
            _read(stream, at, size) for kind, at, size in find_boxes(stream) if kind == b"moov"
        ]
    return any(b"sinf" in table and (b"encv" in table or b"enca" in table) for table in tables)


def _read(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(min(size, MAX_TABLE_BYTES))


def _fragment_time(fragment: bytes) -> tuple[int, int]:
    """Return the first track of a fragment, and when it begins in ticks; 0 where not said."""
    _, _, track = fragment.partition(b"tfhd")
    _, _, box = track.partition(b"tfdt")
    time = int.from_bytes(box[4:12] if box[:1] == b"\x01" else box[4:8], "big")
    return int.from_bytes(track[4:8], "big"), time


def promised_seconds(path: Path) -> float:
    """Return the end that indexes of fragments state which go on beyond the end of the file."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        indexes = [(at, length) for kind, at, length in find_boxes(stream) if kind == b"sidx"]
        ends = [_index_end(_read(stream, at, length), at + length) for at, length in indexes]
    return max((seconds for seconds, byte in ends if byte > size), default=0.0)


def _index_end(index: bytes, first_byte: int) -> tuple[float, int]:
    """Return the time and the byte at which the last fragment of an index ends; 0 if it is none."""
    version = index[BOX_HEAD_BYTES : BOX_HEAD_BYTES + 1]
    head = INDEX_HEADS[version > b"\0"]
    begin = BOX_HEAD_BYTES + head.size
    if len(index) < begin:
        return 0.0, 0
    rate_hz, ticks, offset, count = head.unpack_from(index, BOX_HEAD_BYTES)
    if not rate_hz or len(index) != begin + count * FRAGMENT.size:
        return 0.0, 0
    fragments = list(FRAGMENT.iter_unpack(index[begin:]))
    ticks += sum(length for _, length, _ in fragments)
    num_bytes = sum(size & SIZE_BITS for size, _, _ in fragments)
    return ticks / rate_hz, first_byte + offset + num_bytes
