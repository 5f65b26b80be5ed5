"""Packets of a sound file that hold no sound: tags, padding, an incomplete end.

Where a format has no lengths of its own (MP3, AAC, AC-3), libav hands out what lies between two
frames as a packet; of raw samples (WAV) the last packet may end within a sample.
"""

import re
from pathlib import Path

from av.audio.stream import AudioStream
from av.packet import Packet

from pipeline_src.transcode.lead import MEASURES

# Tags of songs and zeros, which players skip.
HARMLESS = re.compile(rb"ID3[\x02-\x04]|TAG|APETAGEX|LYRICSBEGIN|3DI|\x00{8}")
# How each frame of a format begins that is nothing but frames.
SYNC = {
    "mp3": re.compile(rb"\xff[\xe0-\xff]"),
    "aac": re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"),
    "ac3": re.compile(rb"\x0b\x77|\x77\x0b"),
    "eac3": re.compile(rb"\x0b\x77|\x77\x0b"),
}
HEAD_BYTES = 16
# Formats whose decoder refuses a part of a frame.
STRICT = {"aac", "ac3", "eac3", "loas"}
# In the third byte of a frame of ADTS.
RATE_BITS = 0x3C
ID3_HEAD_BYTES = 10
# Formats whose last frame, or whose demuxer, would take the tags behind it for sound.
TAKE_TAGS = {"ac3", "amr", "eac3", "flac", "loas", "wv"}
ID3V1_BYTES = 128
APE_FOOT = re.compile(rb"APETAGEX.{4}(.{4}).{4}...(.).{8}\Z", re.DOTALL)
APE_FOOT_BYTES = 32
APE_FOOT_ZEROS = 8
APE_HAS_HEAD = 0x80
LYRICS_FOOT = re.compile(rb"(\d{6})LYRICS200\Z")
LYRICS_FOOT_BYTES = 15
# More zeros are no padding but what a download did not fill.
PADDING_BYTES = 65_536
MIN_PADDING_BYTES = 8

ByteRange = tuple[int, int]


class ForeignPackets:
    """What of a stream is no sound, and where in the file it lies.

    ``num_broken`` counts packets that are neither frames nor known tags.
    """

    def __init__(self, stream: AudioStream, format_name: str) -> None:
        self.ranges: list[ByteRange] = []
        self.num_broken = 0
        self._sync = SYNC.get(format_name)
        self._is_raw = stream.codec_context.name.startswith("pcm_")
        self._is_adts = format_name == "aac"
        self._measure = MEASURES[format_name] if format_name in STRICT else None
        self._rate: int | None = None
        self._other: int | None = None
        self._block = 0
        self._last: ByteRange | None = None

    def takes(self, packet: Packet) -> bool:
        """Return whether a packet is no sound; an unknown one may still be the incomplete end."""
        position = packet.pos
        if position is None or not packet.size:
            return False
        self._close()
        if self.ranges and position <= self.ranges[-1][1]:
            return True
        head = bytes(memoryview(packet)[:HEAD_BYTES])
        if self._is_raw and not self._block and packet.duration:
            self._block = packet.size // packet.duration  # bytes of one sample of all channels
        if self._block and packet.size % self._block:
            self._last = (position, position + packet.size - 1)
        elif self._sync and not self._sync.match(head):
            here = (position, position + max(packet.size, _tag_bytes(head)) - 1)
            if not HARMLESS.match(head):
                self._last = here
                return True
            self.ranges.append(here)
            return True
        elif self._measure and self._measure(head) > packet.size:
            self._last = (position, position + packet.size - 1)
            return True
        return False

    def find_other_rate(self, packet: Packet) -> int | None:
        """Find where frames of ADTS have another rate than the first, which times them all.

        A single one is damaged.
        """
        if not self._is_adts or packet.size < HEAD_BYTES:
            return None
        rate = bytes(memoryview(packet)[:HEAD_BYTES])[2] & RATE_BITS
        self._rate = rate if self._rate is None else self._rate
        begin, self._other = self._other, None if rate == self._rate else packet.pos
        return begin if self._other is not None else None

    def finish(self) -> tuple[ByteRange, ...]:
        """Return the byte ranges, with that of the last packet if it is incomplete."""
        return (*self.ranges, *([self._last] if self._last else []))

    def _close(self) -> None:
        """Count a broken packet that others follow: only the last may be incomplete."""
        self.num_broken += self._last is not None
        self._last = None


def find_media_end(path: Path) -> int | None:
    """Find the byte where the tags and zeros at the end of a file begin; None without any."""
    with path.open("rb") as stream:
        size = end = stream.seek(0, 2)
        while True:
            first = max(0, end - PADDING_BYTES - 1)
            stream.seek(first)
            length = _ending_bytes(stream.read(end - first))
            if not 0 < length < end:
                return None if end == size else end
            end -= length


def _ending_bytes(data: bytes) -> int:
    """Return how many of the last bytes are a tag or padding; 0 = sound."""
    if data[-ID3V1_BYTES:].startswith(b"TAG"):
        return ID3V1_BYTES
    if found := LYRICS_FOOT.search(data[-LYRICS_FOOT_BYTES:]):
        return int(found[1]) + LYRICS_FOOT_BYTES
    bare = data.rstrip(b"\0")
    num_zeros = len(data) - len(bare)
    foot = APE_FOOT.search((bare + bytes(APE_FOOT_ZEROS))[-APE_FOOT_BYTES:])
    if foot and num_zeros == APE_FOOT_ZEROS:
        has_head = foot[2][0] & APE_HAS_HEAD
        return int.from_bytes(foot[1], "little") + (APE_FOOT_BYTES if has_head else 0)
    if not MIN_PADDING_BYTES <= num_zeros <= PADDING_BYTES:
        return 0
    return num_zeros - (APE_FOOT_ZEROS if foot else 0)


def _tag_bytes(head: bytes) -> int:
    """Return the length of an ID3 tag by its own header, 0 for anything else."""
    if len(head) < ID3_HEAD_BYTES or not head.startswith(b"ID3"):
        return 0
    size = 0
    for byte in head[6:ID3_HEAD_BYTES]:
        size = size << 7 | byte & 0x7F
    return size + ID3_HEAD_BYTES
