"""What fetching a source can give, and what its form says of the file and the host."""

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from pipeline_src.datasets.sources import source_kind

YOUTUBE_PREFIX = "youtube:"
YOUTUBE_HOST = "youtube.com"
BEFORE_THAT = "; before that: "  # between why one source failed and why those before it did
EXTENSION_PATTERN = re.compile(r"\.[A-Za-z0-9]{1,5}")


class Fetched(NamedTuple):
    """A raw clip on disk. In the raw folder it appears once the journal has it."""

    path: Path
    bytes: int
    sha256: str
    attempts: int = 1


class FetchFailure(NamedTuple):
    """A clip that could not be fetched: a reason of the ledger's closed list, and the details."""

    reason: str
    detail: str
    attempts: int = 1


Outcome = Fetched | FetchFailure


def raw_extension(source: str) -> str:
    """Return the extension of a source as a safe suffix; ``.bin`` where it has none."""
    name = url_path(source) if source_kind(source) == "http" else source
    suffix = PurePosixPath(name).suffix
    return suffix.lower() if EXTENSION_PATTERN.fullmatch(suffix) else ".bin"


def url_path(url: str) -> str:
    """Return the path of a URL; empty where it is none."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def host_of(source: str) -> str:
    """Return the host of a source as the limits know it; empty where it names none."""
    if source_kind(source) == "youtube":
        return YOUTUBE_HOST
    try:
        return (urlsplit(source).hostname or "").lower().removeprefix("www.")
    except ValueError:
        return ""
