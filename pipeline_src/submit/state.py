"""job.json: which job works in a run's folder, and what has become of it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline_src.atomic import write_json
from pipeline_src.submit import slurm
from pipeline_src.submit.slurm import JobState

JOB_FILE = "job.json"


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

    def state(self) -> JobState:
        """What has become of the job."""
        return self._local_state() if self.cluster == "local" else slurm.job_state(self.job_id)

    def stop(self) -> None:
        """Ask the job to save its state and end."""
        if self.cluster == "slurm":
            slurm.cancel(self.job_id)
        elif self.state().is_alive:
            psutil.Process(int(self.job_id)).terminate()

    def log(self, rank: int = 0) -> Path:
        """What a rank printed."""
        return Path(self.folder) / f"{self.job_id}_{rank}_log.out"

    def _local_state(self) -> JobState:
        try:
            process = psutil.Process(int(self.job_id))
            same = abs(process.create_time() - self.started) < 1
            alive = same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            alive = False
        return JobState("RUNNING" if alive else slurm.GONE)


def read_job(run_dir: Path) -> JobRecord | None:
    """The job last submitted for ``run_dir``, if its record is readable."""
    try:
        return JobRecord(**json.loads((run_dir / JOB_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
