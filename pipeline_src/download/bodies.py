"""Whether a body can be a recording, by its first bytes and its declared type.

Sites answer for what they have lost: with their start page, a picture, a sentence; and some declare
a video all the same. What is text all over, or a picture, is no recording.
"""

import re
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlsplit

from pipeline_src.errors import MediaError

HEAD_BYTES = 4096
PICTURES = (*(b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"%PDF"),)
PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
PAGE = re.compile(rb"<(!doctype\s+html|html|head|body|title|meta|script|div|h1|p)[\s>]", re.I)
CONTROL_BYTES = bytes(sorted({*range(32)} - {9, 10, 12, 13, 27}))
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
PLAYLIST_TYPE = re.compile(r"mpegurl|dash\+xml", re.I)
PLAYLISTS = {".m3u8", ".m3u", ".mpd"}
RECORDINGS = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe"),
    *(".vob", ".ogv", ".ogm", ".ogx", ".ts", ".mts", ".m2ts", ".m2t", ".3gp", ".3g2", ".flv"),
    *(".f4v", ".wmv", ".asf", ".rm", ".rmvb", ".mxf", ".dv", ".nut", ".ivf", ".wtv", ".qt"),
    *(".wav", ".flac", ".mp3", ".mp2", ".mp1", ".mpa", ".m4a", ".m4b", ".aac", ".ogg", ".oga"),
    *(".opus", ".spx", ".wma", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".amr", ".wv"),
    *(".w64", ".rf64", ".ac3", ".eac3", ".ec3", ".dts", ".tta", ".sph", ".voc", ".mka", ".weba"),
    *(".ape", ".mlp", ".thd", ".loas", ".latm", ".sox", ".ra"),
}
START_NAMES = re.compile(
    r"(home|index|start|main|default|welcome|landing|[a-z]{2}(-[a-z]{2})?)?(\.\w{1,5})?", re.I
)
LOST_NAMES = re.compile(
    r"(log-?in|sign-?in|errors?|404|not-?found|gone|sorry|removed|unavailable)(\.\w{1,5})?", re.I
)


class PageError(MediaError):
    """The answer is a web page, or a playlist, and may lead to a recording."""


def check_head(head: bytes, declared: str, what: str) -> None:
    """Refuse a body that can be no recording.

    Args:
        head: its first HEAD_BYTES, or all of it. declared: Content-Type. what: for messages.
    Raises:
        PageError: a page or a playlist. MediaError: anything else.
    """
    kind = " ".join(declared.split())[:80] or "none"
    if not head:
        raise MediaError("truncated", f"{what}: an empty answer, Content-Type {kind}")
    if is_picture(head):
        raise MediaError("unavailable", f"{what}: a picture, Content-Type {kind}, no recording")
    if not is_text(head):
        return
    if "html" in declared.lower() or PAGE.search(head):
        raise PageError("unavailable", f"{what}: a web page, Content-Type {kind}, no recording")
    if PLAYLIST_TYPE.search(declared):
        raise PageError("unsupported", f"{what}: a playlist, Content-Type {kind}, no recording")
    raise MediaError("unsupported", f"{what}: text, Content-Type {kind}, no recording")


def is_picture(head: bytes) -> bool:
    """Return whether this is the beginning of a still picture or a document."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in PICTURE_BRANDS
    is_bitmap = head[:2] == b"BM" and head[6:10] == bytes(4)
    return is_bitmap or head.startswith(PICTURES)


def is_text(head: bytes) -> bool:
    """Return whether this is text in any encoding: recordings have control bytes all over."""
    return head.startswith(UTF_16) or head.translate(None, CONTROL_BYTES) == head


def names_recording(url: str) -> bool:
    """Return whether an address ends in the name of a recording, by its path or by a parameter."""
    try:
        address = urlsplit(url)
    except ValueError:
        return False
    names = [address.path, *(value for _, value in parse_qsl(address.query))]
    return any(PurePosixPath(name).suffix.lower() in RECORDINGS for name in names)


def names_playlist(url: str) -> bool:
    """Return whether an address is that of a playlist of pieces (HLS, DASH)."""
    try:
        return PurePosixPath(urlsplit(url).path).suffix.lower() in PLAYLISTS
    except ValueError:
        return False


def leads_home(asked: str, answered: str) -> bool:
    """Return whether a redirect left the wanted page for a folder above it, or a start page."""
    before, after = urlsplit(asked), urlsplit(answered)
    here, there = before.path.strip("/"), after.path.strip("/")
    if (here, before.query) == (there, after.query):
        return False
    last = there.rpartition("/")[2]
    if LOST_NAMES.fullmatch(last):
        return True
    is_start = START_NAMES.fullmatch(last) is not None
    if here == there:  # a start page too tells its pages apart by the query
        return is_start and not after.query
    name = PurePosixPath(here).stem
    is_same = bool(name) and name in f"{last}?{after.query}"
    return (is_start or here.startswith(f"{there}/")) and not is_same
