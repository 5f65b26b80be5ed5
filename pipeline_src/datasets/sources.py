"""Where a clip comes from, by the form of its ``source``, and which sources no list may hold."""

import functools
import re
from typing import Literal
from urllib.parse import urlsplit

YOUTUBE_SOURCE = re.compile(r"youtube:[A-Za-z0-9_-]+")
URL_PATTERN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
MEMBER_SOURCE = re.compile(r"(.+?\.(?:tar|tar\.gz|tgz|zip))::(.*)", re.I | re.S)
OTHER_ARCHIVE = re.compile(
    r".+?(\.(?:tar\.(?:bz2|xz|lzma|zst|lz4|z)|tbz2?|txz|tzst|7z|rar|gz|bz2|xz|zst|cpio|iso))::",
    re.I | re.S,
)
FETCHED = "paths, archive.tar::member, http://, https:// and youtube:<id>"
ARCHIVES = ".tar, .tar.gz, .tgz and, on this machine, .zip"
LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
MAX_HOST_CHARS = 253

Kind = Literal["local", "member", "http", "youtube", "unsupported"]


def source_kind(source: str) -> Kind:
    """Tell how ``source`` is fetched; a member's archive may be local or an http(s) URL."""
    if YOUTUBE_SOURCE.fullmatch(source):
        return "youtube"
    match = URL_PATTERN.match(source)
    if match and match[1].lower() not in ("http", "https"):
        return "unsupported"
    if MEMBER_SOURCE.fullmatch(source):
        return "member"
    return "http" if match else "local"


def split_member(source: str) -> tuple[str, str]:
    """Split ``a.tar::b/c.mp4`` into (``a.tar``, ``b/c.mp4``)."""
    match = MEMBER_SOURCE.fullmatch(source)
    assert match is not None, source
    return match[1], match[2]


def source_problem(source: str) -> str:
    """Return why ``source`` can never be fetched and what to write; empty if it can."""
    kind = source_kind(source)
    if kind != "member" and (match := OTHER_ARCHIVE.match(source)):
        return f"archives that end in {match[1]} are not read; allowed are {ARCHIVES}"
    if kind == "unsupported":
        scheme = source.partition(":")[0]
        return f"{scheme}:// is not fetched; allowed are {FETCHED}"
    url = split_member(source)[0] if kind == "member" else source
    if source_kind(url) != "http":
        return ""
    if kind == "member" and url.lower().endswith(".zip"):
        return f"a .zip is read on this machine only: fetch it first; allowed are {ARCHIVES}"
    return address_problem(url)


def address_problem(url: str) -> str:
    """Return why an http(s) URL cannot be requested; empty if it can."""
    try:
        address = urlsplit(url)
        host, _ = address.hostname or "", address.port
    except ValueError as error:
        return f"no address that can be asked: {error}"
    if "@" in address.netloc:
        return (
            "a user or password in an address would be written into results; put it into ~/.netrc "
            "or PIPELINE_COOKIES and leave it out here"
        )
    return _host_problem(host)


@functools.lru_cache(maxsize=1024)
def _host_problem(host: str) -> str:
    if not host:
        return "no address that can be asked: it names no host"
    if ":" in host:  # IPv6, which urlsplit has checked
        return ""
    try:
        labels = host.removesuffix(".").encode("idna").decode().split(".")
    except UnicodeError:
        labels = [""]
    is_host = all(map(LABEL.fullmatch, labels)) and len(host) <= MAX_HOST_CHARS
    return "" if is_host else f"no address that can be asked: {host[:80]!r} is no name of a host"
