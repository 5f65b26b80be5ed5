"""One workflow at a time per results folder: a lock that dies with its holder, even by kill -9."""

import fcntl
import os
import socket
from pathlib import Path
from typing import TextIO

from pipeline_src.errors import StageError

LOCK_FILE = ".lock"
_held: list[TextIO] = []  # open for as long as the process lives


def hold_results(results: Path) -> None:
    """Lock ``results`` for this process.

    Raises:
        StageError: another process holds it; the message names it.
    """
    stream = _lock(results)
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    stream.flush()
    _held.append(stream)


def refuse_if_held(results: Path) -> None:
    """Raise StageError while another process works in ``results``."""
    _lock(results).close()


def _lock(results: Path) -> TextIO:
    results.mkdir(parents=True, exist_ok=True)
    stream = (results / LOCK_FILE).open("a+", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        holder = stream.read().strip() or "another process"
        stream.close()
        raise StageError(
            f"{results} is in use by {holder}. Wait for it, or give this run its own folder: "
            "--config results=<folder>"
        ) from None
    except OSError as error:
        stream.close()
        raise StageError(
            f"{results}: its file system cannot lock files ({error.strerror}); mount it with "
            "flock, or put the results elsewhere: --config results=<folder>"
        ) from None
    return stream
