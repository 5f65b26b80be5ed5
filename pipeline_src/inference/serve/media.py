"""The recording of a row, for the page to play: its file, or the sound of its packed clip."""

import mimetypes
from pathlib import Path

from aiohttp import web

from pipeline_src.errors import ManifestError, SampleError
from pipeline_src.inference.search.store import Row
from pipeline_src.shards.reader import ShardReader
from pipeline_src.shards.samples import Sample

UNKNOWN = "application/octet-stream"
PLAYED = ("video", "audio", "image")
NOT_PLAYED = ("image/svg+xml",)  # it may hold scripts


def media_type(path: str) -> str:
    """Return the content type of a file by its name, of what a page may play."""
    guessed = mimetypes.guess_type(path)[0] or UNKNOWN
    is_played = guessed.partition("/")[0] in PLAYED and guessed not in NOT_PLAYED
    return guessed if is_played else UNKNOWN


def media_kind(row: Row) -> str:
    """Return how a page plays a row: video, audio or image; empty = not at all."""
    if not row["path"]:
        return "audio" if row["sample"] and "audio" in row["has"] else ""
    kind = media_type(row["path"]).partition("/")[0]
    return kind if kind in PLAYED else "video"


def media_response(row: Row) -> web.StreamResponse:
    """Answer with the recording of a row.

    Raises:
        LookupError: it has none, or the file is not the one that was indexed.
    """
    if row["path"]:
        return _file(row)
    if row["sample"]:
        return web.Response(body=_sound(row), content_type="audio/flac")
    raise LookupError("nothing to play")


def _file(row: Row) -> web.FileResponse:
    path = Path(row["path"])
    if not path.is_file():
        raise LookupError("the file is gone")
    status = path.stat()
    if not row["sample"] and row["stamp"] and row["stamp"] != [status.st_size, status.st_mtime_ns]:
        raise LookupError("the file has changed since the index was built")
    response = web.FileResponse(path)
    response.content_type = media_type(row["path"])
    return response


def _sound(row: Row) -> bytes:
    shard, key, offset, size, crc32 = row["sample"]
    sample = Sample(Path(shard), key, offset, size, (), row["clip"], crc32)
    try:
        members = ShardReader().read(sample)
        return bytes(members["flac"])
    except (SampleError, ManifestError, KeyError) as error:
        raise LookupError(f"no sound in the shard: {error}") from None
