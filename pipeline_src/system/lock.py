"""One workflow at a time per results folder: a lock that dies with its holder, even by kill -9."""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO, Any, TextIO

from pipeline_src.errors import ConfigError, StageError

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


def hold_file(stream: IO[Any], refusal: str) -> None:
    """Lock an open file until it is closed.

    Raises:
        ConfigError: another process holds it; says ``refusal``.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise ConfigError(refusal) from None
    except OSError:
        pass  # of a file system that cannot lock nobody is kept out


def _open(results: Path) -> TextIO:
    elsewhere = "or put the results elsewhere: --config results=<folder>"
    path = results / LOCK_FILE
    try:
        results.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except PermissionError:
        owner = next((one for one in (path, results) if os.access(one, os.F_OK)), results)
        raise StageError(
            f"{results} cannot be written: {owner} is user {_owner(owner)}'s and not open to you; "
            f"ask for write permission on it and all below, {elsewhere}"
        ) from None
    except OSError as error:
        raise StageError(
            f"{results} cannot be written: {error.strerror}; mend that, {elsewhere}"
        ) from None


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):  # the user is of another machine, or the file went meanwhile
        return "another"


def _lock(results: Path) -> TextIO:
    stream = _open(results)
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
