"""What a file is by its own head, where it has other bytes than that tells.

Fewer: it was cut off. More, in WAV: what recorded it did not come to write the size.
"""

import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

HEAD_BYTES = 65_536
MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
# The length of a number of EBML is the place of its first bit; all ones stand for unknown.
EBML_WIDTHS = 8
RIFF_HEAD_BYTES = 8
AVI_HEADER = re.compile(rb"avih.{4}(.{20})", re.DOTALL)
MAX_BYTES = 1 << 62
# Up to the samples, with the bytes of a second and the size of all.
WAV_DATA = re.compile(rb"RIFF.{4}WAVE.*?fmt .{12}(.{4}).*?data(.{4})", re.DOTALL)
# What pipes write in place of it: ffmpeg and others, SoX.
UNKNOWN_SIZES = ((0xFFFF0000, 0xFFFFFFFF), (0x7FFF0000, 0x7FFFFFFF))
# Of CAF, the rate and what a packet holds: bytes, 0 where they differ, and samples.
CAF_DATA = re.compile(rb"caff.{4}desc.{8}(.{8}).{8}(.{8}).*?data(.{8})", re.DOTALL)
# Of W64, with the bytes of a second; its names are 16 bytes, sizes 8 and count both.
W64_DATA = re.compile(rb"riff.*?wave.*?fmt .{12}.{8}.{8}(.{4}).*?data.{12}(.{8})", re.DOTALL)
W64_HEAD_BYTES = 24
# A number before the samples.
CAF_EDITS_BYTES = 4
# A chunk, or a tag of songs.
CHUNK = re.compile(rb"[ -~]{4}")
FLV_SIZE = re.compile(rb"\x00\x08filesize\x00(.{8})", re.DOTALL)
# The first frame of an MP3 file, which holds no sound but numbers of frames and bytes.
XING = re.compile(rb"\xff[\xe0-\xff].{7,40}?(?:Xing|Info)\x00\x00\x00([\x02-\x0f])", re.DOTALL)
HAS_FRAMES, HAS_BYTES = 1, 2
ASF_PROPERTIES = re.compile(
    b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65.{24}(.{48})", re.DOTALL
)


class Stated(NamedTuple):
    """What a head tells of its file; 0 where it does not, or where libav finds the length there."""

    num_bytes: int
    seconds: float = 0.0


def stated_seconds(path: Path, containers: frozenset[str], header_seconds: float) -> float:
    """Return the length of a file that was cut off, by its head, or of all WAV; 0 if it is whole.

    Args:
        header_seconds: what libav finds, which for some containers is a part of it in such a file.
    """
    if "wav" in containers:
        return _wav_seconds(path)
    readers = [reader for name, reader in READERS.items() if name in containers]
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    try:
        found = [reader(head) for reader in readers]
    except struct.error:  # the file ends within its head
        return 0.0
    size = path.stat().st_size
    return max((one.seconds or header_seconds for one in found if one.num_bytes > size), default=0)


def _wav_seconds(path: Path) -> float:
    """Return the length that a cut file states, or all there is without a chunk's name; or 0."""
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        found = WAV_DATA.match(head)
        rate, size = (
            struct.unpack("<I", found[1]) + struct.unpack("<I", found[2]) if found else (0, 0)
        )
        if not found or not rate or not size:
            return 0.0
        end = found.end() + size + size % 2
        stream.seek(end)
        rest = stream.read(HEAD_BYTES)
    there = path.stat().st_size - found.end()
    if there < size and not any(first <= size <= last for first, last in UNKNOWN_SIZES):
        return size / rate
    is_more = bool(rest.strip(b"\0")) and not CHUNK.match(rest)
    return there / rate if is_more else 0.0


def _matroska(head: bytes) -> Stated:
    """Find the end of the segment, which is unknown in what a pipe wrote."""
    begin = head.find(MATROSKA_SEGMENT) + len(MATROSKA_SEGMENT)
    first = head[begin] if len(MATROSKA_SEGMENT) <= begin < len(head) else 0
    width = EBML_WIDTHS + 1 - first.bit_length()
    unknown = (1 << 7 * width) - 1
    size = int.from_bytes(head[begin : begin + width], "big") & unknown
    return Stated(0 if not first or size == unknown else begin + width + size)


def _avi(head: bytes) -> Stated:
    (size,) = struct.unpack_from("<I", head, 4)
    found = AVI_HEADER.search(head)
    frame, count = struct.unpack("<I12xI", found[1]) if found else (0, 0)
    return Stated(RIFF_HEAD_BYTES + size if count else 0, frame * count / 1e6)


def _flv(head: bytes) -> Stated:
    found = FLV_SIZE.search(head)
    (size,) = struct.unpack(">d", found[1]) if found else (0.0,)
    return Stated(int(size) if 0 < size < MAX_BYTES else 0)


def _mp3(head: bytes) -> Stated:
    """Find the number of bytes from the first frame on."""
    found = XING.search(head)
    if not found or not found[1][0] & HAS_BYTES:
        return Stated(0)
    offset = 4 if found[1][0] & HAS_FRAMES else 0
    (size,) = struct.unpack_from(">I", head, found.end() + offset)
    return Stated(found.start() + size)


def _asf(head: bytes) -> Stated:
    found = ASF_PROPERTIES.search(head)
    if not found:
        return Stated(0)
    size, ticks, preroll_ms = struct.unpack("<Q16xQ8xQ", found[1])
    return Stated(size, ticks / 1e7 - preroll_ms / 1e3)


def _sox(head: bytes) -> Stated:
    """Find the number of samples; 0 where a pipe did not know it."""
    order = "<" if head.startswith(b".SoX") else ">"
    size, samples, rate, channels = struct.unpack_from(f"{order}IQdI", head, 4)
    is_known = 0 < samples < MAX_BYTES and channels and rate
    return Stated(4 + size + 4 * samples, samples / channels / rate) if is_known else Stated(0)


def _w64(head: bytes) -> Stated:
    found = W64_DATA.match(head)
    rate, size = (
        (*struct.unpack("<I", found[1]), *struct.unpack("<Q", found[2])) if found else (0, 0)
    )
    if not found or not rate or not W64_HEAD_BYTES < size < MAX_BYTES:
        return Stated(0)
    return Stated(found.end() - W64_HEAD_BYTES + size, (size - W64_HEAD_BYTES) / rate)


def _caf(head: bytes) -> Stated:
    """Find the size of the samples, -1 where a pipe did not know it."""
    found = CAF_DATA.match(head)
    if not found:
        return Stated(0)
    (rate,), (size,) = struct.unpack(">d", found[1]), struct.unpack(">q", found[3])
    num_bytes, num_samples = struct.unpack(">II", found[2])
    if not 0 < size < MAX_BYTES:
        return Stated(0)
    is_even = num_bytes and num_samples and rate > 0
    seconds = (size - CAF_EDITS_BYTES) / num_bytes * num_samples / rate if is_even else 0.0
    return Stated(found.end() + size, seconds)


READERS: Mapping[str, Callable[[bytes], Stated]] = {
    "matroska": _matroska,
    "avi": _avi,
    "flv": _flv,
    "mp3": _mp3,
    "asf": _asf,
    "sox": _sox,
    "w64": _w64,
    "caf": _caf,
}
