"""job.json: which job works in a run's folder, and its state."""

import json
import os
import signal
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from pipeline_src.errors import TrainingError
from pipeline_src.submit import slurm
from pipeline_src.submit.environment import ignore_terminal_signals
from pipeline_src.submit.slurm import JobState
from pipeline_src.system.atomic import write_json

JOB_FILE = "job.json"
KILL_SECONDS = 10.0
A_YEAR_SECONDS = 3e7


@dataclass(frozen=True)
class JobRecord:
    """A submitted job.

    Args:
        cluster: local or slurm.
        job_id: process id of the controller (local) or Slurm's job id.
        fingerprint: of the spec that the job works on.
        started: ``start_mark`` of the local controller, against re-used process ids; 0 on Slurm.
        host: machine of a local job.
        stopping: it has been asked to save and end.
    """

    cluster: str
    job_id: str
    fingerprint: str
    folder: str
    started: float = 0.0
    host: str = ""
    stopping: bool = False

    def save(self, run_dir: Path) -> None:
        """Write job.json before anyone waits."""
        write_json(run_dir / JOB_FILE, asdict(self))

    def state(self) -> JobState:
        """Return the state of the job.

        Raises:
            TrainingError: it runs on another machine, or there is no Slurm here.
        """
        return self._local_state() if self.cluster == "local" else slurm.job_state(self.job_id)

    def stop(self, run_dir: Path) -> bool:
        """Ask the job to save its state and end; return whether it could be asked."""
        replace(self, stopping=True).save(run_dir)
        with ignore_terminal_signals():  # a second Ctrl-C must not end what stops the job
            if self.cluster == "slurm":
                return slurm.cancel(self.job_id)
            with suppress(psutil.NoSuchProcess):
                if self.state().is_alive:
                    controller = psutil.Process(int(self.job_id))
                    controller.terminate()
                    for process in [controller, *controller.children()]:
                        if process.status() == psutil.STATUS_STOPPED:
                            process.resume()  # else it would not hear it
            return True

    def kill(self) -> None:
        """End a local job that has not ended when it was asked to."""
        with suppress(psutil.NoSuchProcess):
            controller = psutil.Process(int(self.job_id))
            processes = [*controller.children(recursive=True), controller]
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(processes, KILL_SECONDS)

    def log(self, rank: int = 0) -> Path:
        """Return the path of a rank's log."""
        return Path(self.folder) / f"{self.job_id}_{rank}_log.out"

    def _local_state(self) -> JobState:
        if self.host not in ("", socket.gethostname()):
            raise TrainingError(
                f"{self.folder}: process {self.job_id} on {self.host} may still train this run. "
                f"Run the command there, or delete {JOB_FILE} beside it once that has ended"
            )
        try:
            process = psutil.Process(int(self.job_id))
            # Earlier versions wrote the time of day.
            is_date = self.started > A_YEAR_SECONDS
            mark = process.create_time() if is_date else start_mark(process)
            same = abs(mark - self.started) < 1
            alive = same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            alive = False
        return JobState("RUNNING" if alive else slurm.GONE)


def start_mark(process: psutil.Process) -> float:
    """Return when a process was started, by a clock that is never set where there is one.

    Linux counts from the machine's start; what psutil makes of it moves when the clock is set.
    """
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return process.create_time()


def read_job(run_dir: Path) -> JobRecord | None:
    """Read the job last submitted for ``run_dir``, if its record is readable."""
    try:
        record = JobRecord(**json.loads((run_dir / JOB_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    words = (record.cluster, record.job_id, record.fingerprint, record.folder, record.host)
    is_whole = all(isinstance(word, str) for word in words)
    is_whole = is_whole and isinstance(record.started, int | float)
    return record if is_whole and record.job_id.isdigit() else None
