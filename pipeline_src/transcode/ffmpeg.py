"""Find ffmpeg and run it: argument list, no shell, bounded stderr, time-out, group killed."""

import collections
import functools
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import imageio_ffmpeg

from pipeline_src.errors import MediaError, StageError

ENVIRONMENT_VARIABLE = "PIPELINE_FFMPEG"
DROPS_SINCE = 7
WHEEL_VARIABLE = "IMAGEIO_FFMPEG_EXE"
TAIL_LINES = 20
LINE_CHARS = 500
VERSION_TIMEOUT_SECONDS = 20
TRIES = 3
NO_ANSWER = "no answer"  # of a machine that is too busy, or of no ffmpeg
TOO_OLD_MESSAGES = ("Unrecognized option", "cannot be applied to")
NO_FILTER_MESSAGE = "No such filter"
NEW_STREAM_MESSAGES = ("failed to create or replace stream", "Header packet passed to frame")
# Of the objects that speak in memory, other ones in each process: [aac @ 0x55c690abe400].
ADDRESS = re.compile(rb" @ 0x[0-9a-f]+")
DISK_FULL_MESSAGES = ("No space left on device", "Disk quota exceeded")


@functools.cache
def find_ffmpeg() -> str:
    """Find the binary: $PIPELINE_FFMPEG, else PATH, else the one in the imageio-ffmpeg wheel.

    Raises:
        StageError: a variable names no executable file, or there is none.
    """
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen is None:
        return shutil.which("ffmpeg") or _packed_ffmpeg()
    if shutil.which(chosen) is None:
        raise StageError(
            f"{ENVIRONMENT_VARIABLE}={chosen!r} is no executable file; unset it to use PATH"
        )
    return chosen


def ffmpeg_version() -> str:
    """Return what the binary calls itself, e.g. ``7.1-static``.

    ``absent`` where none runs, ``no answer`` where it stays silent: that is asked again by the
    next call, since what is decoded and how depends on it.
    """
    for _ in range(TRIES):
        with suppress(subprocess.TimeoutExpired):
            return _ask_version()
    return NO_ANSWER


@functools.cache
def _ask_version() -> str:
    try:
        answer = subprocess.run(
            [find_ffmpeg(), "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise
    except (StageError, RuntimeError, OSError, subprocess.SubprocessError):
        return "absent"
    words = answer.stdout.split(maxsplit=3)  # ffmpeg version <it> ...
    return words[2] if words[:2] == ["ffmpeg", "version"] and len(words) > 2 else "unknown"


def refuse_no_ffmpeg() -> None:
    """Refuse a binary that does not answer as ffmpeg: all clips would be called corrupt.

    Raises:
        StageError: names it.
    """
    version = ffmpeg_version()
    if version == NO_ANSWER:
        raise StageError(
            f"{find_ffmpeg()} did not answer `-version` in {TRIES} x {VERSION_TIMEOUT_SECONDS} s; "
            "if the machine is busy, run the same command again when it is less so"
        )
    if version in ("absent", "unknown"):
        raise StageError(
            f"{find_ffmpeg()} does not answer `-version` as ffmpeg does; correct or unset "
            f"{ENVIRONMENT_VARIABLE}, or install ffmpeg"
        )


def drops_packets() -> bool:
    """Return whether this ffmpeg can drop packets before decoding, as 7.0 and later can."""
    version = ffmpeg_version()
    released = re.match(r"n?(\d+)\.", version)
    return int(released[1]) >= DROPS_SINCE if released else version != NO_ANSWER


def _packed_ffmpeg() -> str:
    """Return the wheel's binary, or the one that the wheel's own variable names.

    Raises:
        StageError: the variable names no executable file, or there is none.
    """
    try:
        found = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        found = ""
    if shutil.which(found):
        return found
    if named := os.environ.get(WHEEL_VARIABLE):
        raise StageError(f"{WHEEL_VARIABLE}={named!r} is no executable file; unset it")
    raise StageError(
        "no ffmpeg: none on PATH and none in the imageio-ffmpeg wheel; install ffmpeg 5.1 or "
        f"newer, or let {ENVIRONMENT_VARIABLE} name one"
    )


def call_ffmpeg(arguments: Sequence[str], *, timeout_seconds: float, folder: Path) -> int:
    """Run ffmpeg to its end.

    Args:
        arguments: without the program's name.
        timeout_seconds: after this long it is killed with everything it started.
        folder: working folder.
    Returns:
        How many lines it wrote to stderr.
    Raises:
        MediaError: ``timeout``, or ``corrupt`` with the tail of stderr; ``unsupported`` where a
            joined file cannot be read on.
        StageError: the disk is full, or this ffmpeg lacks an option.
    """
    process = subprocess.Popen(
        [find_ffmpeg(), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        start_new_session=True,
    )
    assert process.stderr is not None
    tail = Tail()
    reader = threading.Thread(target=tail.drain, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        code = process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        raise MediaError("timeout", f"ffmpeg killed after {timeout_seconds:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reader.join()
        process.stderr.close()
    message = tail.text()
    if any(text in message for text in DISK_FULL_MESSAGES):
        raise StageError(
            f"{folder}: disk full; free space or set TMPDIR, then run the same command again"
        )
    if code == 0:
        return tail.num_lines
    if any(text in message for text in TOO_OLD_MESSAGES):
        raise StageError(
            f"{find_ffmpeg()} is too old (5.1 is needed, 7.0 for media.frame_times: keyframe): "
            f"{message}; let {ENVIRONMENT_VARIABLE} name another one"
        )
    if NO_FILTER_MESSAGE in message:
        raise StageError(
            f"{find_ffmpeg()} lacks a filter: {message}; let {ENVIRONMENT_VARIABLE} name another "
            "one, or set media.hdr: keep (zscale, tonemap), media.deinterlace: never (estdif)"
        )
    if any(text in message for text in NEW_STREAM_MESSAGES):
        raise MediaError(
            "unsupported",
            "several files joined to one, whose pictures or sound ffmpeg does not read on: "
            f"cut them apart ({message})",
        )
    raise MediaError("corrupt", f"ffmpeg exit code {code}: {message}")


class Tail:
    """The last lines of a stream, and how many there were."""

    def __init__(self) -> None:
        self.num_lines = 0
        self._lines: collections.deque[bytes] = collections.deque(maxlen=TAIL_LINES)

    def drain(self, stream: IO[bytes]) -> None:
        """Read to the end, so that ffmpeg never blocks on a full pipe."""
        while line := stream.readline(LINE_CHARS):
            self.num_lines += line.endswith(b"\n")
            if line.strip():
                self._lines.append(ADDRESS.sub(b"", line.rstrip()))

    def text(self) -> str:
        """Return the last lines."""
        return b"\n".join(self._lines).decode(errors="replace").strip()
