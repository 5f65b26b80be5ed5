"""Explain why a job ended without a result: the first cause, as its rank recorded it."""

import re
from pathlib import Path

from pipeline_src.submit.failures import Failure, read_failures
from pipeline_src.submit.slurm import JobState
from pipeline_src.submit.state import JobRecord

LOG_TAIL_LINES = 15


def first_cause(record: JobRecord) -> str:
    """Describe in one sentence the rank that failed first; empty where nothing is known."""
    failures = read_failures(Path(record.folder), record.job_id)
    if cause := _cause(failures):
        return _said_by(cause, record)
    silent = sorted(_ranks(record) - {failure.rank for failure in failures})
    if failures and silent:
        ranks = f"rank{'s' * (len(silent) > 1)} {', '.join(map(str, silent))}"
        return f"{ranks} ended silently: killed, or out of memory?"
    return ""


def explain_end(record: JobRecord, state: JobState) -> str:
    """Explain why there is no result, and what to do."""
    failures = read_failures(Path(record.folder), record.job_id)
    cause = _cause(failures)
    if cause and cause.cause == "own":
        return cause.message
    silent = _ranks(record) - {failure.rank for failure in failures}
    log = record.log(cause.rank if cause else min(silent, default=0))
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    tail = "\n  ".join(lines[-LOG_TAIL_LINES:])
    why = f" {sentence}." if (sentence := first_cause(record).rstrip(".")) else ""
    return (
        f"{record.cluster} job {record.job_id} ended as {state} without a result.{why} Run the "
        f"same command again to continue from the last checkpoint. End of {log}:\n  "
        f"{tail or '(empty)'}"
    )


def _cause(failures: list[Failure]) -> Failure | None:
    """Return the first failure that is no echo of another one."""
    return next((failure for failure in failures if failure.cause != "echo"), None)


def _said_by(failure: Failure, record: JobRecord) -> str:
    is_alone = len(_ranks(record)) < 2
    return failure.message if is_alone else f"rank {failure.rank}: {failure.message}"


def _ranks(record: JobRecord) -> set[int]:
    """Return the ranks that have written a log."""
    names = (path.name for path in Path(record.folder).glob(f"{record.job_id}_*_log.out"))
    return {int(found[1]) for name in names if (found := re.search(r"_(\d+)_log\.out$", name))}
