"""Where the first whole frame of raw sound begins: a dump of a stream may begin within one.

libav hands out that part as a packet, or takes bytes of it for the head of a frame, and it cannot
be decoded. Longer than a frame, it is no such part but damage.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline_src.transcode.frame_heads import ADTS_RATES_HZ, MPEG_RATES_HZ, read_mpeg

# Of libav: where it begins to read.
LEAD_OPTION = "skip_initial_bytes"
HEAD_BYTES = 8
# So many frames, each where the one before ends, do not stand there by chance.
MIN_FRAMES = 4
AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
AC3_FRAME_BITS = 1536 * 1000
ADTS_HEAD_BYTES = 7
MPEG_LAYER_1 = 3
# By layer as the head has it, and 0 for rates below 32 kHz; the first and the last are no rates.
MPEG_KBPS = {
    0: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0),
}


def _adts_bytes(head: bytes) -> int:
    """Return how long the frame is that begins so; 0 where none does."""
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 >= len(ADTS_RATES_HZ):
        return 0
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size > ADTS_HEAD_BYTES else 0


def _ac3_bytes(head: bytes) -> int:
    kind, rate, step = head[5] >> 3, head[4] >> 6, head[4] & 63
    if head[:2] != b"\x0b\x77" or kind > 16:
        return 0
    if kind > 10:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    if rate == 3 or step >= 2 * len(AC3_KBPS):
        return 0
    kbps = AC3_KBPS[step // 2]
    return (4 * kbps, 2 * (kbps * AC3_FRAME_BITS // (44100 * 16) + step % 2), 6 * kbps)[rate]


def _mpeg_bytes(head: bytes) -> int:
    found, layer = read_mpeg(head), head[1] >> 1 & 3
    if found is None or layer == MPEG_LAYER_1:
        return 0
    is_first = found.rate_hz >= min(MPEG_RATES_HZ)
    kbps = MPEG_KBPS[layer if is_first else 0][head[2] >> 4]
    return found.num_samples * kbps * 125 // found.rate_hz + (head[2] >> 1 & 1)


def _loas_bytes(head: bytes) -> int:
    is_frame = head[0] == 0x56 and head[1] & 0xE0 == 0xE0
    return ((head[1] & 0x1F) << 8 | head[2]) + 3 if is_frame else 0


# How to read a head, how it begins, and the longest frame.
FORMATS: Mapping[str, tuple[Callable[[bytes], int], bytes, int]] = {
    "aac": (_adts_bytes, b"\xff", 8191),
    "ac3": (_ac3_bytes, b"\x0b\x77", 3840),
    "eac3": (_ac3_bytes, b"\x0b\x77", 4096),
    "loas": (_loas_bytes, b"\x56", 8194),
}


MEASURES = {name: measure for name, (measure, _, _) in FORMATS.items()} | {"mp3": _mpeg_bytes}
# Some frames.
MAX_REST_BYTES = 65_536


def find_lead(path: Path, format_name: str) -> int:
    """Return how many bytes lie before the first whole frame; 0 also where none is found."""
    if format_name not in FORMATS:
        return 0
    status = path.stat()
    return _find(path, (status.st_mtime_ns, status.st_size), format_name)


def ends_within_frame(path: Path, format_name: str, last_byte: int) -> bool:
    """Return whether a file stops within a frame of raw sound, by its frames from a byte on."""
    measure = MEASURES.get(format_name)
    size = path.stat().st_size
    if measure is None or not last_byte:
        return False
    with path.open("rb") as stream:
        stream.seek(last_byte)
        data = stream.read(MAX_REST_BYTES)
    at = 0
    while at + HEAD_BYTES <= len(data) and (length := measure(data[at : at + HEAD_BYTES])):
        at += length
    return last_byte + at > size


@functools.lru_cache(maxsize=64)
def _find(path: Path, version: tuple[int, int], format_name: str) -> int:
    measure, sync, longest = FORMATS[format_name]
    with path.open("rb") as stream:
        data = stream.read((MIN_FRAMES + 1) * longest + HEAD_BYTES)
    is_all = len(data) == version[1]
    at = data.find(sync)
    while 0 <= at <= longest:
        if _is_chain(data, at, measure, is_all):
            return at
        at = data.find(sync, at + 1)
    return 0


def _is_chain(data: bytes, at: int, measure: Callable[[bytes], int], is_all: bool) -> bool:
    """Return whether frames follow each other from a byte on, or one is left of all the data."""
    for number in range(MIN_FRAMES):
        head = data[at : at + HEAD_BYTES]
        if len(head) < HEAD_BYTES:
            return is_all and number > 0
        size = measure(head)
        if not size:
            return False
        at += size
    return True
