"""job.json: which job works in a run's folder, and whether it is still alive."""

import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline_src.atomic import write_json

JOB_FILE = "job.json"
QUEUE_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class JobRecord:
    """A submitted job.

    Args:
        cluster: local or slurm.
        job_id: process id of the controller (local) or Slurm's job id.
        fingerprint: of the spec that the job works on.
        started: creation time of the local controller, against re-used process ids; 0 on Slurm.
    """

    cluster: str
    job_id: str
    fingerprint: str
    folder: str
    started: float = 0.0

    def save(self, run_dir: Path) -> None:
        """Write job.json before anyone waits."""
        write_json(run_dir / JOB_FILE, asdict(self))

    def is_alive(self) -> bool:
        """Whether the job still runs or waits in the queue."""
        return self._local_is_alive() if self.cluster == "local" else self._slurm_is_alive()

    def stop(self) -> None:
        """Ask the job to save its state and end."""
        if self.cluster == "slurm":
            subprocess.run(["scancel", "--", self.job_id], check=False, timeout=60)
        elif self._local_is_alive():
            psutil.Process(int(self.job_id)).terminate()

    def _local_is_alive(self) -> bool:
        try:
            process = psutil.Process(int(self.job_id))
            same = abs(process.create_time() - self.started) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def _slurm_is_alive(self) -> bool:
        command = ["squeue", "--noheader", "--format=%T", f"--jobs={self.job_id}"]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=QUEUE_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return True  # the controller may be away for a moment
        if result.returncode:
            return "Invalid job id" not in result.stderr  # the controller may be away for a moment
        ended = {"", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
        return result.stdout.strip() not in ended


def read_job(run_dir: Path) -> JobRecord | None:
    """The job last submitted for ``run_dir``, if its record is readable."""
    try:
        return JobRecord(**json.loads((run_dir / JOB_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def pick_cluster(wanted: str) -> str:
    """Resolve ``auto``: slurm where sbatch is on PATH, else local."""
    if wanted != "auto":
        return wanted
    return "slurm" if shutil.which("sbatch") else "local"
