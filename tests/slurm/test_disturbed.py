"""What clusters do to a training: each time it ends with the loss curve of an undisturbed one.

Two nodes throughout; the data is the tiny run's, and each case trains under a name of its own.
"""

import json
import os
import signal
import time
from contextlib import suppress

import psutil
import pytest

from tests.slurm.training import NUM_STEPS, TIMEOUT_SECONDS, Training

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


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


@pytest.mark.exhaustive
def test_requeued_from_outside(disturbed, cluster):
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    cluster.run("scontrol", "requeue", job_id)
    output = disturbed.ends_well(workflow)
    assert disturbed.job_id() == job_id
    assert "PENDING (BeginTime)" in output
    assert 0 < resumed_at(disturbed) < NUM_STEPS


@pytest.mark.exhaustive
def test_one_rank_killed(disturbed):
    """As its loader's death ends it, and as it dies twice in a row."""
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    disturbed.ranks()[-1].send_signal(signal.SIGKILL)
    disturbed.ends_well(workflow)
    assert disturbed.job_id() != job_id
    assert resumed_at(disturbed) > 0


def test_one_loader_killed(disturbed):
    """Its rank says so and ends at once, and the next job continues."""
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    loaders = disturbed.ranks()[-1].children()
    assert len(loaders) == 2
    loaders[0].kill()
    output = disturbed.ends_well(workflow)
    assert disturbed.job_id() != job_id
    assert resumed_at(disturbed) > 0
    log = disturbed.workflow_log()
    assert f"loader process {loaders[0].pid} was killed by SIGKILL" in log + output


@pytest.mark.exhaustive
def test_node_lost(disturbed, cluster):
    """Slurm starts the job again, or the waiter another one if its ranks notice first."""
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
    for rank in disturbed.ranks():
        rank.suspend()  # else it is done before Slurm looks; the warning wakes it up
    cluster.run("scontrol", "update", f"jobid={job_id}", "timelimit=1")
    disturbed.ends_well(workflow)
    assert disturbed.job_id() == job_id
    assert "SIGUSR2: stopping after this step" in disturbed.log()
    assert resumed_at(disturbed) > 0


@pytest.mark.exhaustive
def test_killed_again_and_again(disturbed, cluster):
    """Two jobs in a row without a new checkpoint end with what is known; then it can continue."""
    workflow = disturbed.start()
    killed = set()
    while workflow.poll() is None:
        for rank in disturbed.ranks():
            with suppress(psutil.Error):  # its peers end with it
                killed.add(rank.environ()["SLURM_JOB_ID"])
                rank.kill()
        time.sleep(0.05)
    output = workflow.communicate()[0]
    assert len(killed) == 2
    assert f"slurm job {max(killed, key=int)} ended as FAILED (exit code" in output
    assert "Run the same command again to continue" in output
    assert "Traceback" not in output
    disturbed.ends_well(disturbed.start())


@pytest.mark.exhaustive
def test_preempted_by_a_job_of_a_higher_partition(disturbed, cluster):
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    cluster.run(
        "sbatch",
        "--partition=urgent",
        "--nodes=3",
        "--exclusive",
        "--output=/dev/null",
        "--wrap=sleep 1",
    )
    disturbed.ends_well(workflow)
    assert disturbed.job_id() == job_id
    assert resumed_at(disturbed) > 0


@pytest.mark.exhaustive
def test_done_file_lost_after_the_end(disturbed, cluster):
    """A training that ended while nobody watched is published here, without a job in the queue."""
    disturbed.ends_well(disturbed.start())
    (disturbed.folder / "done.json").unlink()
    disturbed.ends_well(disturbed.start())
    assert json.loads((disturbed.folder / "job.json").read_text())["cluster"] == "local"


@pytest.mark.exhaustive  # the local one is in e2e/test_interrupted.py
def test_snakemake_killed_and_started_again(disturbed, cluster):
    """kill -9 leaves the job in the queue; the same command joins it."""
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.communicate()
    assert cluster.jobs() == {job_id: "RUNNING"}
    disturbed.ends_well(disturbed.start())
    assert disturbed.job_id() == job_id


@pytest.mark.exhaustive
def test_record_lost_with_its_submitter(disturbed, cluster):
    """Killed between sbatch and the record: the job is found in the queue by its mark."""
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.communicate()
    (disturbed.folder / "job.json").unlink()
    disturbed.ends_well(disturbed.start())
    assert disturbed.job_id() == job_id


def test_interrupted_by_the_user_and_cancelled_from_outside(disturbed, cluster):
    """Ctrl-C saves and ends the job, scancel ends it; both say so, the same command continues."""
    workflow = disturbed.start()
    job_id = disturbed.wait_for_a_checkpoint()
    os.killpg(workflow.pid, signal.SIGINT)
    output = workflow.communicate(timeout=TIMEOUT_SECONDS)[0]
    assert workflow.returncode != 0
    assert f"interrupted by SIGINT: slurm job {job_id} saves its state and ends" in output
    workflow = disturbed.start()  # at once: the first job may still be ending
    disturbed.wait_until(lambda: "resuming" in disturbed.log())
    assert "SIGTERM: stopping after this step" in disturbed.log()
    assert "state saved" in disturbed.log()
    assert 0 < resumed_at(disturbed) < NUM_STEPS
    second = disturbed.job_id()
    assert second != job_id

    cluster.run("scancel", second)
    output = workflow.communicate(timeout=TIMEOUT_SECONDS)[0]
    assert workflow.returncode != 0
    assert f"slurm job {second} ended as CANCELLED" in output
    disturbed.ends_well(disturbed.start())
    assert disturbed.job_id() not in (job_id, second)


@pytest.mark.exhaustive
def test_left_in_the_queue_by_the_user(disturbed, cluster):
    """The same with ``submit.on_interrupt: leave``: the job continues and is joined."""
    leave = "submit={on_interrupt: leave}"
    workflow = disturbed.start(leave)
    job_id = disturbed.wait_for_a_checkpoint()
    os.killpg(workflow.pid, signal.SIGINT)
    output = workflow.communicate(timeout=TIMEOUT_SECONDS)[0]
    assert f"Slurm job {job_id} keeps running. Run the same command to join it" in output
    assert cluster.jobs() == {job_id: "RUNNING"}
    disturbed.ends_well(disturbed.start(leave))
    assert disturbed.job_id() == job_id
