"""Why the ranks of a job ended: each leaves a record, and the first cause is what is shown.

A rank that fails takes its peers with it: their errors (a closed connection, a time-out) are echoes
and say nothing. A rank that was killed leaves no record at all.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipeline_src.errors import LoaderError, PipelineError
from pipeline_src.system.atomic import write_json

# How libraries name what happens to a rank whose peer is gone.
PEER_LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
LONGEST_MESSAGE = 4000

Cause = Literal["own", "fault", "echo"]


@dataclass(frozen=True)
class Failure:
    """How one rank ended.

    Args:
        cause: own = another job would end likewise; fault = something of its own that may pass, or
            a defect; echo = a peer was lost.
        seconds: since the epoch, which tells the first of several.
    """

    rank: int
    cause: Cause
    message: str
    seconds: float


def record_failure(folder: Path, job_id: str, rank: int, error: BaseException) -> None:
    """Leave a record of how this rank ended."""
    is_told = isinstance(error, PipelineError)
    message = str(error) if is_told else f"{type(error).__name__}: {error}"
    failure = Failure(rank, _cause(error), message[:LONGEST_MESSAGE], time.time())
    write_json(_path(folder, job_id, rank), asdict(failure))


def forget_failure(folder: Path, job_id: str, rank: int) -> None:
    """Remove the record of an earlier attempt of the same job."""
    _path(folder, job_id, rank).unlink(missing_ok=True)


def read_failures(folder: Path, job_id: str) -> list[Failure]:
    """Read the records of a job's ranks: causes before echoes, the earliest first."""
    found = []
    for path in folder.glob(f"{job_id}_*_failure.json"):
        try:
            found.append(Failure(**json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda failure: (failure.cause == "echo", failure.seconds))


def _cause(error: BaseException) -> Cause:
    if isinstance(error, PipelineError):
        return "fault" if isinstance(error, LoaderError) else "own"
    is_echo = isinstance(error, RuntimeError | OSError) and any(x in str(error) for x in PEER_LOST)
    return "echo" if is_echo else "fault"


def _path(folder: Path, job_id: str, rank: int) -> Path:
    return folder / f"{job_id}_{rank}_failure.json"
