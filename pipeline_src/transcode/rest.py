"""What lies behind the last packet of a file: another file, joined to it, that nothing reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Of formats that end where their first file does. Others are read on (MPEG-TS, MPEG-PS, Ogg, MP3,
# AAC), or have parts of the same name (AVI).
HEADS = {
    "matroska": b"\x1a\x45\xdf\xa3",
    "flv": b"FLV\x01",
    "flac": b"fLaC",
    "wav": b"RIFF",
    "w64": b"riff\x2e\x91\xcf\x11",
    "aiff": b"FORM",
    "caf": b"caff\x00\x01",
    "tta": b"TTA1",
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
}
# An index lies between; a longer one belongs to a file of many hours.
SEARCHED_BYTES = 16_000_000
BOX_HEAD_BYTES = 8
# A box of this size says it in 8 further bytes; one of size 0 is the last.
LARGE_BOX = 1
# Fragments of a long stream.
MAX_BOXES = 100_000
MAX_TABLE_BYTES = 64_000_000


def find_joined(path: Path, containers: frozenset[str], end: int) -> int | None:
    """Find where in a file another one of its kind begins.

    Args:
        containers: names of the format.
        end: byte after the last packet that is read; 0 where that is not known.
    """
    if "mov" in containers:
        return find_second_movie(path)
    if not end:
        return None
    head = next((HEADS[name] for name in HEADS if name in containers), None)
    if head is None:
        return None
    with path.open("rb") as stream:
        if stream.read(len(head)) != head:
            return None
        stream.seek(end)
        at = stream.read(SEARCHED_BYTES).find(head)
    return None if at < 0 else end + at


def find_second_movie(path: Path) -> int | None:
    """Find further tables in an MP4 or MOV file, of which libav reads the first alone.

    A stream of fragments may repeat its tables, but its time continues then.
    """
    begin, tables = 0, b""
    joint = first_time = None
    with path.open("rb") as stream:
        for kind, at, size in _boxes(stream):
            if kind == b"ftyp":
                begin = at
            elif kind == b"moov":
                content, before = _read(stream, at, size), tables
                if before and (content != before or (begin and first_time is None)):
                    return begin or at
                joint, tables = (begin or at) if before else None, content
            elif kind == b"moof" and (first_time is None or joint is not None):
                time = _fragment_time(_read(stream, at, size))
                if first_time is None:
                    first_time = time
                elif time <= first_time:
                    return joint
                joint = None
    return None


def _read(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(min(size, MAX_TABLE_BYTES))


def _fragment_time(fragment: bytes) -> int:
    """Return when the first track of a fragment begins, in ticks; 0 where it does not say."""
    _, _, box = fragment.partition(b"tfdt")
    return int.from_bytes(box[4:12] if box[:1] == b"\x01" else box[4:8], "big")


def _boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
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
