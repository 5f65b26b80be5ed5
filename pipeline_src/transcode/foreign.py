"""Packets of a sound file that hold no sound: tags, padding, an incomplete end.

Where a format has no lengths of its own (MP3, AAC, AC-3), libav hands out what lies between two
frames as a packet; of raw samples (WAV) the last packet may end within a sample.
"""

import re

from av.audio.stream import AudioStream
from av.packet import Packet

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
ID3_HEAD_BYTES = 10

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
        return False

    def finish(self) -> tuple[ByteRange, ...]:
        """Return the byte ranges, with that of the last packet if it is incomplete."""
        return (*self.ranges, *([self._last] if self._last else []))

    def _close(self) -> None:
        """Count a broken packet that others follow: only the last may be incomplete."""
        self.num_broken += self._last is not None
        self._last = None


def _tag_bytes(head: bytes) -> int:
    """Return the length of an ID3 tag by its own header, 0 for anything else."""
    if len(head) < ID3_HEAD_BYTES or not head.startswith(b"ID3"):
        return 0
    size = 0
    for byte in head[6:ID3_HEAD_BYTES]:
        size = size << 7 | byte & 0x7F
    return size + ID3_HEAD_BYTES
