"""What lies behind the last packet of a file: another file, joined to it, that nothing reads."""

from pathlib import Path

# Of formats that end where their first file does. Others are read on (MPEG-TS, MPEG-PS, Ogg, MP3,
# AAC), or have parts of the same name (AVI).
HEADS = {
    "matroska": b"\x1a\x45\xdf\xa3",
    "flv": b"FLV\x01",
    "flac": b"fLaC",
    "wav": b"RIFF",
}
# An index lies between; a longer one belongs to a file of many hours.
SEARCHED_BYTES = 16_000_000


def find_joined(path: Path, containers: frozenset[str], end: int) -> int | None:
    """Where in a file another one of its kind begins.

    Args:
        containers: names of the format.
        end: byte after the last packet that is read.
    """
    head = next((HEADS[name] for name in HEADS if name in containers), None)
    if head is None:
        return None
    with path.open("rb") as stream:
        if stream.read(len(head)) != head:
            return None
        stream.seek(end)
        at = stream.read(SEARCHED_BYTES).find(head)
    return None if at < 0 else end + at
