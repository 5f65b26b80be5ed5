"""Ask Slurm about jobs, with accounting and without it.

submitit asks accounting alone; without it, a job that died would stay unknown.
"""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline_src.errors import TrainingError

QUERY_TIMEOUT_SECONDS = 60
END_TIMEOUT_SECONDS = 120.0  # until a job that was told to end is gone
# Everything else in Slurm's list of job states still runs, waits or will run again.
ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
GONE = "GONE"
UNREACHABLE = "UNREACHABLE"
UNKNOWN_JOB = "Invalid job id"


@dataclass(frozen=True)
class JobState:
    """State of a job.

    Args:
        name: as Slurm spells it (RUNNING, PENDING, FAILED ...); GONE = unknown to Slurm;
            UNREACHABLE = the controller did not answer.
        detail: why it waits, or its exit code.
    """

    name: str
    detail: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the job runs, waits, or may do so: a controller that is away says nothing."""
        return self.name not in ENDED and self.name != GONE

    def __str__(self) -> str:
        return f"{self.name} ({self.detail})" if self.detail else self.name


@dataclass(frozen=True)
class QueuedJob:
    """A job of this user in the queue."""

    job_id: str
    work_dir: str
    comment: str


def job_state(job_id: str) -> JobState:
    """Ask the controller, the queue, or accounting for the state of a job.

    Raises:
        TrainingError: there is no Slurm on this machine.
    """
    result = _run("scontrol", "show", "job", "--oneliner", job_id)
    if result and result.returncode == 0 and result.stdout.strip():
        return _from_controller(result.stdout)
    if result and UNKNOWN_JOB in result.stderr:
        return _from_accounting(job_id) or JobState(GONE)
    # Some sites do not let users ask the controller.
    return _from_queue(job_id) or _from_accounting(job_id) or JobState(UNREACHABLE)


def _from_controller(line: str) -> JobState:
    fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
    name, reason = fields["JobState"], fields.get("Reason", "None")
    if name in ENDED:
        return JobState(name, f"exit code {fields.get('ExitCode', 'unknown')}")
    return JobState(name, "" if reason == "None" else reason)


def _from_queue(job_id: str) -> JobState | None:
    result = _run("squeue", "--noheader", "--states=all", "--format=%T|%r", f"--jobs={job_id}")
    if result is None or result.returncode or not result.stdout.strip():
        return None
    name, reason = result.stdout.split("\n")[0].split("|")
    return JobState(name, "" if reason == "None" or name in ENDED else reason)


def _from_accounting(job_id: str) -> JobState | None:
    result = _run(
        "sacct", "--jobs", job_id, "--allocations", "--noheader", "--parsable2",
        "--format=State,ExitCode",
    )  # fmt: skip
    if result is None or result.returncode or not result.stdout.strip():
        return None
    state, exit_code = result.stdout.splitlines()[-1].split("|")
    name = state.split()[0]  # "CANCELLED by 1000"
    return JobState(name, f"exit code {exit_code}" if name in ENDED else "")


def queued_jobs() -> Iterator[QueuedJob]:
    """Yield every job of this user that waits or runs.

    Raises:
        TrainingError: the queue does not answer; submitting blindly could start a second job.
    """
    result = _run("squeue", "--me", "--noheader", "--format=%i|%Z|%k")
    if result is None or result.returncode:
        said = result.stderr.strip() if result else f"no answer in {QUERY_TIMEOUT_SECONDS} s"
        raise TrainingError(f"squeue: {said}; run the same command again when Slurm answers")
    for line in result.stdout.splitlines():
        yield QueuedJob(*line.split("|", 2))


def cancel(*job_ids: str) -> bool:
    """Ask jobs to save their state and end; Slurm kills them after its KillWait."""
    result = _run("scancel", "--", *job_ids)
    return result is not None and result.returncode == 0


def requeue(job_id: str) -> bool:
    """Put a running job back into the queue under the same id."""
    result = _run("scontrol", "requeue", job_id)
    return result is not None and result.returncode == 0


def node_address(node: str) -> str:
    """Return the address by which Slurm reaches a node; its name if Slurm does not tell."""
    result = _run("scontrol", "show", "node", "--oneliner", node)
    words = result.stdout.split() if result and result.returncode == 0 else []
    return next((w.split("=", 1)[1] for w in words if w.startswith("NodeAddr=")), node)


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=QUERY_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    except FileNotFoundError:
        if shutil.which("squeue"):
            return None
        raise TrainingError(
            f"{command[0]}: no such program; a job of this run was sent to Slurm, so run the "
            "command where Slurm is"
        ) from None
