"""Asking Slurm about a job: works with accounting and without it."""

import subprocess
from dataclasses import dataclass

QUERY_TIMEOUT_SECONDS = 60
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


@dataclass(frozen=True)
class JobState:
    """State of a job.

    Args:
        name: as Slurm spells it (RUNNING, PENDING, FAILED ...); GONE = nobody remembers the job;
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


def job_state(job_id: str) -> JobState:
    """State of a job from the controller, or from accounting once the controller has forgotten."""
    result = _run("scontrol", "show", "job", "--oneliner", job_id)
    if result is None or (result.returncode and "Invalid job id" not in result.stderr):
        return JobState(UNREACHABLE)
    if result.returncode == 0 and result.stdout.strip():
        return _from_controller(result.stdout)
    return _from_accounting(job_id)


def _from_controller(line: str) -> JobState:
    fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
    name, reason = fields["JobState"], fields.get("Reason", "None")
    if name in ENDED:
        return JobState(name, f"exit code {fields.get('ExitCode', 'unknown')}")
    return JobState(name, "" if reason == "None" else reason)


def _from_accounting(job_id: str) -> JobState:
    result = _run(
        "sacct", "--jobs", job_id, "--allocations", "--noheader", "--parsable2",
        "--format=State,ExitCode",
    )  # fmt: skip
    if result is None or result.returncode or not result.stdout.strip():
        return JobState(GONE)
    state, exit_code = result.stdout.splitlines()[-1].split("|")
    name = state.split()[0]  # "CANCELLED by 1000"
    return JobState(name, f"exit code {exit_code}" if name in ENDED else "")


def find_job(comment: str) -> str | None:
    """Id of the job in the queue that was submitted with ``comment``."""
    result = _run("squeue", "--me", "--noheader", "--format=%i|%k")
    lines = result.stdout.splitlines() if result and result.returncode == 0 else []
    found = [line.split("|", 1) for line in lines]
    return next((job_id for job_id, text in found if text == comment), None)


def cancel(job_id: str) -> None:
    """Ask a job to save its state and end; Slurm kills it after its KillWait."""
    _run("scancel", "--", job_id)


def requeue(job_id: str) -> bool:
    """Put a running job back into the queue under the same id."""
    result = _run("scontrol", "requeue", job_id)
    return result is not None and result.returncode == 0


def node_address(node: str) -> str:
    """Address by which Slurm reaches a node; its name when Slurm does not tell."""
    result = _run("scontrol", "show", "node", "--oneliner", node)
    words = result.stdout.split() if result and result.returncode == 0 else []
    return next((w.split("=", 1)[1] for w in words if w.startswith("NodeAddr=")), node)


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=QUERY_TIMEOUT_SECONDS, check=False
        )
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return None
