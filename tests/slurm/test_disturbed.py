"""What clusters do to a training: each time it ends with the loss curve of an undisturbed one.

Two nodes throughout; the data is the tiny run's, and each case trains under a name of its own.
"""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.slurm.conftest import SLURM, TWO_NODES
from tests.workspace import Workspace

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
NUM_STEPS = 90
LONGER = ("pretrain={epochs: 30}", "submit={poll_seconds: 0.5}")
TIMEOUT_SECONDS = 240


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
        return (*SLURM, *TWO_NODES, "--config", *LONGER, *overrides, runs, "--", "pretrain")

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
        """The processes that train."""
        jobs = str(self.folder / "jobs")
        found = [p for p in psutil.process_iter(["cmdline"]) if jobs in (p.info["cmdline"] or [])]
        return [p for p in found if "submitit.core._submit" in p.info["cmdline"]]

    def curve(self) -> list[tuple[int, float]]:
        rows = [json.loads(x) for x in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [(row["step"], row["loss"]) for row in rows if "loss" in row]

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("jobs/*.out")))

    def ends_well(self, process) -> str:
        output = process.communicate(timeout=TIMEOUT_SECONDS)[0]
        assert process.returncode == 0, output[-4000:] + self.log()[-2000:]
        return output


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, built, slurm_env):
    """A copy of the built tiny run on the cluster."""
    workspace = Workspace.make(tmp_path_factory.mktemp("disturbed"), slurm_env)
    built.copy_results_to(workspace)
    return workspace


@pytest.fixture(scope="module")
def undisturbed(prepared):
    """The loss curve that every other case must have."""
    training = Training(prepared, "calm")
    training.ends_well(training.start())
    assert len(training.curve()) == NUM_STEPS
    return training.curve()


@pytest.fixture
def disturbed(prepared, undisturbed, request, cluster):
    """A training of the test's own name; afterwards its curve is right and nothing is left."""
    training = Training(prepared, request.node.name.removeprefix("test_"))
    yield training
    assert training.curve() == undisturbed
    training.wait_until(lambda: not cluster.jobs())
    assert training.ranks() == []


def resumed_at(training) -> int:
    lines = [line for line in training.log().splitlines() if f" of {NUM_STEPS}" in line]
    steps = [int(line.split("at step ")[1].split()[0]) for line in lines if "resuming" in line]
    assert steps, training.log()
    return max(steps)


def test_requeued_from_outside(disturbed, cluster):
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    cluster.run("scontrol", "requeue", job_id)
    output = disturbed.ends_well(workflow)
    assert disturbed.job_id() == job_id
    assert "PENDING (BeginTime)" in output
    assert 0 < resumed_at(disturbed) < NUM_STEPS


def test_one_rank_killed(disturbed):
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    disturbed.ranks()[-1].send_signal(signal.SIGKILL)
    disturbed.ends_well(workflow)
    assert disturbed.job_id() != job_id
    assert resumed_at(disturbed) > 0


def test_node_lost(disturbed, cluster):
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    line = cluster.run("scontrol", "show", "job", "--oneliner", job_id)
    node = "n2" if "n[1-2]" in line or "n[2-3]" in line else "n3"
    cluster.node_down(node)
    try:
        disturbed.ends_well(workflow)
    finally:
        cluster.node_up(node)
    assert resumed_at(disturbed) > 0


def test_time_limit_reached(disturbed, cluster):
    """Slurm warns the job, which saves and puts itself back into the queue under the same id."""
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    cluster.run("scontrol", "update", f"jobid={job_id}", "timelimit=1")
    disturbed.wait_until(lambda: "state saved" in disturbed.log())
    disturbed.wait_until(lambda: cluster.jobs().get(job_id) == "PENDING")
    cluster.run("scontrol", "update", f"jobid={job_id}", "timelimit=60")
    disturbed.ends_well(workflow)
    assert disturbed.job_id() == job_id
    assert resumed_at(disturbed) > 0


def test_snakemake_killed_and_started_again(disturbed, cluster):
    """kill -9 leaves the job in the queue; the same command joins it."""
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.communicate()
    assert cluster.jobs() == {job_id: "RUNNING"}
    disturbed.ends_well(disturbed.start())
    assert disturbed.job_id() == job_id


def test_record_lost_with_its_submitter(disturbed, cluster):
    """Killed between sbatch and the record: the job is found in the queue by its mark."""
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.communicate()
    (disturbed.folder / "job.json").unlink()
    disturbed.ends_well(disturbed.start())
    assert disturbed.job_id() == job_id


def test_interrupted_by_the_user(disturbed, cluster):
    """Ctrl-C saves and ends the job, and says so; the same command continues."""
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    os.killpg(workflow.pid, signal.SIGINT)
    output = workflow.communicate(timeout=TIMEOUT_SECONDS)[0]
    assert workflow.returncode != 0
    assert f"interrupted by SIGINT: slurm job {job_id} saves its state and ends" in output
    disturbed.wait_until(lambda: not cluster.jobs())
    saved = disturbed.saved_step()
    assert 0 < saved < NUM_STEPS
    disturbed.ends_well(disturbed.start())
    assert resumed_at(disturbed) == saved


def test_left_in_the_queue_by_the_user(disturbed, cluster):
    """The same with ``submit.on_interrupt: leave``: the job goes on and is joined."""
    leave = "submit={poll_seconds: 0.5, on_interrupt: leave}"
    workflow = disturbed.start(leave)
    job_id = disturbed.wait_for_a_checkpoint()
    os.killpg(workflow.pid, signal.SIGINT)
    output = workflow.communicate(timeout=TIMEOUT_SECONDS)[0]
    assert f"Slurm job {job_id} goes on. Run the same command to join it" in output
    assert cluster.jobs() == {job_id: "RUNNING"}
    disturbed.ends_well(disturbed.start(leave))
    assert disturbed.job_id() == job_id
