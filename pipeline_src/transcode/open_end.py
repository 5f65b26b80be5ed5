"""Files that lack the end which their format has: they were cut off, or never ended by a recorder.

Which of both it was no file tells. Ogg marks the last page of a stream; NUT ends with an index; the
frames of raw sound state their lengths.
"""

from pathlib import Path

from pipeline_src.transcode.lead import ends_within_frame

OGG_PAGE = b"OggS\0"
OGG_HEAD_BYTES = 27
OGG_LAST = 4
# The longest page has 65,307.
OGG_TAIL_BYTES = 262_144
NUT_INDEX = b"NX\xddg/#\xe6N"
# The length of the index stands before its checksum, at the end of the file.
NUT_FOOT_BYTES = 12


def has_open_end(path: Path, containers: frozenset[str], last_byte: int) -> bool:
    """Return whether a file stops before the end that its format has; False where it has none.

    Args:
        last_byte: where the last packet begins; 0 where that is not known.
    """
    if "ogg" in containers:
        return _ends_ogg(path) is False
    if "nut" in containers:
        return not _ends_nut(path)
    return any(ends_within_frame(path, name, last_byte) for name in containers)


def _ends_ogg(path: Path) -> bool | None:
    """Return whether the last page of each stream at the end is whole and marked as its last."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - OGG_TAIL_BYTES))
        data = stream.read()
    ends: dict[bytes, bool] = {}
    at = data.find(OGG_PAGE)
    while at >= 0:
        table = at + OGG_HEAD_BYTES
        if table > len(data):
            return False
        num_bytes = sum(data[table : table + data[table - 1]])
        end = table + data[table - 1] + num_bytes
        if end > len(data):
            return False
        ends[data[at + 14 : at + 18]] = bool(data[at + 5] & OGG_LAST)
        at = data.find(OGG_PAGE, end)
    return all(ends.values()) if ends else None


def _ends_nut(path: Path) -> bool:
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - NUT_FOOT_BYTES))
        stream.seek(max(0, size - int.from_bytes(stream.read(8), "big")))
        return stream.read(len(NUT_INDEX)) == NUT_INDEX
