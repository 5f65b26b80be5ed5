"""Another file that was joined to a file: most demuxers stop before it, some take it for media."""

import re
from collections.abc import Sequence, Set
from pathlib import Path

from pipeline_src.transcode.boxes import find_boxes, find_second_movie

# How a file begins, by the name of its format. None of it stands in media by chance.
HEADS = {
    name: re.compile(pattern, re.DOTALL)
    for name, pattern in {
        "matroska": rb"\x1a\x45\xdf\xa3.{1,80}?\x42\x82.(?:matroska|webm)",
        "mov": rb"\x00\x00\x00[\x08-\xff]ftyp",
        "flv": rb"FLV\x01[\x00\x01\x04\x05]\x00\x00\x00\x09",
        "flac": rb"fLaC[\x00\x80]\x00\x00\x22",
        "wav": rb"R(?:IFF|F64).{4}WAVE",
        "avi": rb"RIFF.{4}AVI ",
        "w64": rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb",
        "aiff": rb"FORM.{4}AIF[FC]",
        "caf": rb"caff\x00\x01\x00[\x00\x01]",
        "tta": rb"TTA1[\x01\x02]\x00",
        "asf": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
        "voc": rb"Creative Voice File\x1a",
        "wv": rb"wvpk.{4}[\x02-\x10]\x04.{6}\x00{4}",
        "ogg": rb"OggS\x00\x02\x00{8}",
        "mxf": rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02",
        "amr": rb"#!AMR(?:-WB)?\n",
        "au": rb"\.snd.{8}\x00\x00\x00[\x01-\x1b]",
        "sox": rb"\.SoX[\x1c-\xff]\x00\x00\x00",
        "ircam": rb"\x64\xa3[\x01-\x04]\x00.{4}[\x01-\x10]\x00\x00\x00",
        "nut": rb"nut/multimedia container\x00",
        "rm": rb"\.RMF\x00\x00\x00\x12",
        "wtv": rb"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d",
    }.items()
}
# Read as if a second head were media, or reached at a place that libav does not tell.
SWALLOWING = ("amr", "au", "sox", "ircam", "mxf", "nut", "rm", "wtv")
# Each of several streams begins with the head.
REPEATING = {"ogg"}
# Codecs whose own head stands in that of other containers.
CODECS = {"flac", "tta", "wv"}
HOLD_CODECS = {"matroska", "ogg", "nut"}
# An index lies between; a longer one belongs to a file of many hours.
SEARCHED_BYTES = 16_000_000
# Of a file that could not be decoded.
LOOKED_THROUGH_BYTES = 64_000_000
LONGEST_HEAD_BYTES = 128
BLOCK_BYTES = 4_000_000


def find_swallowed(path: Path, containers: frozenset[str]) -> int | None:
    """Find the second head of a file of a kind that is read beyond it."""
    heads = [HEADS[name] for name in SWALLOWING if name in containers]
    return _find_first(path, heads, 1, path.stat().st_size) if heads else None


def find_joined(path: Path, containers: frozenset[str], last_byte: int) -> int | None:
    """Find where in a file another one begins.

    Args:
        containers: names of the format.
        last_byte: where the last packet that is read begins; 0 where that is not known.
    """
    if "mov" in containers:
        return find_second_movie(path) or _head_after_boxes(path)
    if not last_byte:
        return None
    return _find_first(path, _heads_but(_codecs_held(containers)), last_byte, SEARCHED_BYTES)


def find_any(path: Path, containers: frozenset[str]) -> int | None:
    """Find another head anywhere in a file that could not be decoded."""
    if "mov" in containers:
        return find_joined(path, containers, 0)
    ignored = _codecs_held(containers) | containers & REPEATING
    return _find_first(path, _heads_but(ignored), 1, LOOKED_THROUGH_BYTES)


def _codecs_held(containers: frozenset[str]) -> Set[str]:
    return CODECS if containers & HOLD_CODECS else frozenset()


def _heads_but(ignored: Set[str]) -> list[re.Pattern[bytes]]:
    return [head for name, head in HEADS.items() if name not in ignored]


def _find_first(
    path: Path, heads: Sequence[re.Pattern[bytes]], first_byte: int, num_bytes: int
) -> int | None:
    """Find the first head from ``first_byte`` on, within about ``num_bytes``."""
    with path.open("rb") as stream:
        stream.seek(first_byte)
        begin, data = first_byte, b""
        while begin < first_byte + num_bytes and (block := stream.read(BLOCK_BYTES)):
            data += block
            found = [match.start() for head in heads if (match := head.search(data))]
            if found:
                return begin + min(found)
            begin += max(0, len(data) - LONGEST_HEAD_BYTES)
            data = data[-LONGEST_HEAD_BYTES:]
    return None


def _head_after_boxes(path: Path) -> int | None:
    """Find another kind of file right behind the last box of an MP4 or MOV file."""
    with path.open("rb") as stream:
        end = max((at + size for _, at, size in find_boxes(stream)), default=0)
        stream.seek(end)
        rest = stream.read(LONGEST_HEAD_BYTES)
    return end if end and any(head.match(rest) for head in HEADS.values()) else None
