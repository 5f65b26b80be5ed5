"""Containers that are read, and the name of one that is not."""

import re
from pathlib import Path

from pipeline_src.errors import MediaError
from pipeline_src.transcode.ffmpeg import call_ffmpeg

# Containers that hold their own media. Playlists (hls, dash, concat) name other files: refused.
PICTURES_AND_SOUND = (
    "3g2,3gp,asf,avi,dv,flv,gif,h264,hevc,ivf,m4v,matroska,mj2,mov,mp4,mpeg,mpegts,mpegvideo,mxf,"
    "nut,ogg,rm,webm,wtv"
)
SOUND = (
    "aac,ac3,aiff,amr,au,caf,dts,eac3,flac,ircam,loas,m4a,mlp,mp3,nistsphere,rso,sox,"
    "truehd,tta,voc,w64,wav,wv"
)
CONTAINERS = f"{PICTURES_AND_SOUND},{SOUND}"
INPUT_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
# ffmpeg says so of what it recognises before it compares it with the list, and opens nothing.
RECOGNISED = re.compile(r"Format (\S+) probed with size=")
NAMING_SECONDS = 20.0
# What a pipe writes where a size would stand: ffmpeg reads no such file.
UNSIZED = re.compile(rb"FORM\x00{4}AIF[FC]|riff.{12}\xff{8}wave", re.DOTALL)
HEAD_BYTES = 28
# What is no recording, and what to do with it.
OTHER_FILES = {
    b"\x1f\x8b": "a gzip file; unpack it",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the file",
}
# ffmpeg takes their samples for little-endian.
BIG_ENDIAN_WAV = b"RIFX"


def input_url(path: Path) -> str:
    """Return the file's name in a form that is never read as an option or a protocol."""
    return f"file:{path}"


def check_byte_order(path: Path) -> None:
    """Refuse WAV of big-endian samples.

    Raises:
        MediaError: unsupported.
    """
    if _head(path).startswith(BIG_ENDIAN_WAV):
        raise MediaError("unsupported", "big-endian WAV (RIFX); convert it, as sox does")


def check_container(path: Path) -> None:
    """Name the container of a file that could not be opened, if it is one that is not read.

    Raises:
        MediaError: unsupported, also where the header is that of a pipe.
    """
    head = _head(path)
    for begin, what in OTHER_FILES.items():
        if head.startswith(begin):
            raise MediaError("unsupported", what)
    if UNSIZED.match(head):
        raise MediaError(
            "unsupported",
            "AIFF or W64 as a pipe writes it, without sizes; convert it again, into a file",
        )
    name = _recognise(path)
    if name and not set(name.split(",")) & set(CONTAINERS.split(",")):
        raise MediaError("unsupported", f"container {name}; accepted: {CONTAINERS}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:  # why it could not be opened is known by now
        return b""


def _recognise(path: Path) -> str:
    """Return the format that ffmpeg takes the file for; empty if unknown or unsure."""
    nothing = {"protocol_whitelist": "file", "format_whitelist": "none"}
    options = [part for name, value in nothing.items() for part in (f"-{name}", value)]
    try:
        call_ffmpeg(
            ["-hide_banner", "-loglevel", "debug", *options, "-i", input_url(path.absolute())],
            timeout_seconds=NAMING_SECONDS,
            folder=path.parent,
        )
    except MediaError as error:
        found = RECOGNISED.search(error.detail)
        return found[1] if found else ""
    return ""
