"""Where a clip comes from, by the form of its ``source``, and what fetching it can give."""

import re
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

MEMBER_SEPARATOR = ".tar::"
YOUTUBE_PREFIX = "youtube:"
YOUTUBE_HOST = "youtube.com"
URL_PATTERN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
EXTENSION_PATTERN = re.compile(r"\.[A-Za-z0-9]{1,5}")

Kind = Literal["local", "member", "http", "youtube", "unsupported"]


class Fetched(NamedTuple):
    """A raw clip on disk. Under the raw folder it appears once its log has it."""

    path: Path
    bytes: int
    sha256: str
    attempts: int = 1


class Lost(NamedTuple):
    """A clip that could not be had: a reason of the ledger's closed list, and what was seen."""

    reason: str
    detail: str
    attempts: int = 1


Outcome = Fetched | Lost


def source_kind(source: str) -> Kind:
    """Tell how ``source`` is fetched; a member's archive may be local or an http(s) URL."""
    if source.startswith(YOUTUBE_PREFIX):
        return "youtube"
    if (match := URL_PATTERN.match(source)) and match[1].lower() not in ("http", "https"):
        return "unsupported"
    if MEMBER_SEPARATOR in source:
        return "member"
    return "http" if match else "local"


def split_member(source: str) -> tuple[str, str]:
    """``a.tar::b/c.mp4`` -> (``a.tar``, ``b/c.mp4``)."""
    archive, _, member = source.partition(MEMBER_SEPARATOR)
    return archive + ".tar", member


def raw_extension(source: str) -> str:
    """The extension of a source as a safe suffix; ``.bin`` where it has none."""
    name = urlsplit(source).path if source_kind(source) == "http" else source
    suffix = PurePosixPath(name).suffix
    return suffix.lower() if EXTENSION_PATTERN.fullmatch(suffix) else ".bin"


def host_of(source: str) -> str:
    """The host that a source asks, as limits know it."""
    if source_kind(source) == "youtube":
        return YOUTUBE_HOST
    return (urlsplit(source).hostname or "").lower().removeprefix("www.")
