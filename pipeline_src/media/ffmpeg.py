"""Find ffmpeg and run it: argument list, no shell, bounded stderr, time-out, group killed."""

import collections
import functools
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import imageio_ffmpeg

from pipeline_src.errors import MediaError, StageError

ENVIRONMENT_VARIABLE = "PIPELINE_FFMPEG"
TAIL_LINES = 20
LINE_CHARS = 500
DISK_FULL_MESSAGES = ("No space left on device", "Disk quota exceeded")


@functools.cache
def find_ffmpeg() -> str:
    """Path of the binary: $PIPELINE_FFMPEG, else PATH, else the one in the imageio-ffmpeg wheel.

    Raises:
        StageError: the variable names no executable file.
    """
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen is None:
        return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()
    if shutil.which(chosen) is None:
        raise StageError(
            f"{ENVIRONMENT_VARIABLE}={chosen!r} is no executable file; unset it to use PATH"
        )
    return chosen


def run(arguments: Sequence[str], *, timeout_seconds: float, folder: Path) -> None:
    """Run ffmpeg to its end.

    Args:
        arguments: without the program's name.
        timeout_seconds: after this long it is killed with everything it started.
        folder: working folder.
    Raises:
        MediaError: ``timeout``, or ``corrupt`` with the tail of stderr.
        StageError: the disk is full.
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
    tail: collections.deque[bytes] = collections.deque(maxlen=TAIL_LINES)
    reader = threading.Thread(target=_drain, args=(process.stderr, tail), daemon=True)
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
    message = b"\n".join(tail).decode(errors="replace").strip()
    if any(text in message for text in DISK_FULL_MESSAGES):
        raise StageError(
            f"{folder}: disk full; free space or set TMPDIR, then run the same command again"
        )
    if code != 0:
        raise MediaError("corrupt", f"ffmpeg exit code {code}: {message}")


def _drain(stream: IO[bytes], tail: "collections.deque[bytes]") -> None:
    """Read to the end, so that ffmpeg never blocks on a full pipe; keep only the last lines."""
    while line := stream.readline(LINE_CHARS):
        if line.strip():
            tail.append(line.rstrip())
