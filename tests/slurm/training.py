"""One training of a shared copy of the repository, watched from outside."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.workspace import Workspace

NUM_STEPS = 90
# With the tiny run's loader processes: signals reach them as well.
LONGER = ("pretrain={epochs: 30}", "submit={poll_seconds: 0.5}")
TIMEOUT_SECONDS = 600
# The profile as it ships; only the first look at a job comes earlier than on a busy cluster.
SLURM = (
    "--profile", "slurm", "--configfile", "config/test/tiny.yaml",
    "--slurm-init-seconds-before-status-checks", "2",
)  # fmt: skip
TWO_NODES = (
    "--set-resources", "pretrain_model:nodes=2", "pretrain_model:cpus_per_task=1",
    "finetune_model:nodes=2", "finetune_model:cpus_per_task=1",
)  # fmt: skip


@dataclass(frozen=True)
class Training:
    """One pre-training of the shared copy, watched from outside."""

    workspace: Workspace
    name: str

    @property
    def folder(self) -> Path:
        return self.workspace.root / "results/test" / self.name / "pretrain"

    def command(self, *overrides: str) -> tuple[str, ...]:
        runs = f"runs={{{self.name}: {{}}}}"
        target = f"results/test/{self.name}/pretrain/done.json"  # not the tiny run, longer too
        return (*SLURM, *TWO_NODES, "--config", *LONGER, *overrides, runs, "--", target)

    def start(self, *overrides: str):
        return self.workspace.start(*self.command(*overrides))

    def job_id(self) -> str:
        return json.loads((self.folder / "job.json").read_text())["job_id"]

    def saved_step(self) -> int:
        names = [path.name for path in self.folder.glob("checkpoints/step_*")]
        return max((int(name.removeprefix("step_")) for name in names), default=0)

    def wait_until(self, condition) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{self.name}: never got there\n{self.log()}"
            time.sleep(0.05)

    def wait_for_a_checkpoint(self) -> str:
        """Id of the job that has just saved its first state, well before its end."""
        self.wait_until(lambda: self.saved_step() > 0)
        assert self.saved_step() < NUM_STEPS
        return self.job_id()

    def ranks(self) -> list[psutil.Process]:
        """The processes that train; their loaders, forks of them, have the same command line."""
        jobs = str(self.folder / "jobs")
        found = [p for p in psutil.process_iter(["cmdline"]) if jobs in (p.info["cmdline"] or [])]
        ranks = [p for p in found if "submitit.core._submit" in p.info["cmdline"]]
        return [rank for rank in ranks if _parent(rank) not in ranks]

    def curve(self) -> list[tuple[int, float]]:
        rows = [json.loads(x) for x in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [(row["step"], row["loss"]) for row in rows if "loss" in row]

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("jobs/*.out")))

    def workflow_log(self) -> str:
        return (
            self.workspace.root / f"results/test/logs/pretrain_model/{self.name}.log"
        ).read_text()

    def ends_well(self, process) -> str:
        output = process.communicate(timeout=TIMEOUT_SECONDS)[0]
        assert process.returncode == 0, output[-4000:] + self.log()[-2000:]
        return output


def _parent(process: psutil.Process) -> psutil.Process | None:
    try:
        return process.parent()
    except psutil.NoSuchProcess:
        return None
