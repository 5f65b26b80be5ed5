"""What is understood of Slurm's answers."""

import os

import pytest

from pipeline_src.errors import TrainingError
from pipeline_src.submit import slurm


def write_program(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Programs called like Slurm's that print what real ones print."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def set_answers(scontrol, sacct="exit 1", squeue="exit 1"):
        programs = {"scontrol": scontrol, "sacct": sacct, "squeue": squeue}
        for name, script in programs.items():
            write_program(tmp_path, name, script)

    return set_answers


FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scontrol", "sacct", "said", "is_alive"),
    [
        ("echo 'JobId=1 JobState=RUNNING Reason=None'", "exit 1", "RUNNING", True),
        ("echo 'JobId=1 JobState=PENDING Reason=Priority'", "", "PENDING (Priority)", True),
        ("echo 'JobState=FAILED Reason=x ExitCode=0:9'", "", "FAILED (exit code 0:9)", False),
        (FORGOTTEN, "echo 'COMPLETED|0:0'", "COMPLETED (exit code 0:0)", False),
        (FORGOTTEN, "echo 'CANCELLED by 1000|0:15'", "CANCELLED (exit code 0:15)", False),
        (FORGOTTEN, "echo 'RUNNING|0:0'", "RUNNING", True),
        (FORGOTTEN, "echo 'accounting storage is disabled' >&2; exit 1", "GONE", False),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "", "UNREACHABLE", True),
    ],
)
def test_a_job_is_judged_by_whoever_remembers_it(answers, scontrol, sacct, said, is_alive):
    answers(scontrol, sacct)
    state = slurm.job_state("1")
    assert str(state) == said
    assert state.is_alive is is_alive


DENIED = "echo 'Access/permission denied' >&2; exit 1"


@pytest.mark.slow
def test_the_queue_is_asked_where_the_controller_may_not_be(answers):
    answers(DENIED, squeue="echo 'RUNNING|None'")
    assert str(slurm.job_state("1")) == "RUNNING"
    answers(DENIED, squeue="echo 'slurm_load_jobs error' >&2; exit 1", sacct="echo 'FAILED|1:0'")
    assert str(slurm.job_state("1")) == "FAILED (exit code 1:0)"


@pytest.mark.slow
def test_a_queue_that_does_not_answer_is_not_an_empty_one(answers):
    answers("exit 1", squeue="echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(TrainingError, match="squeue: Unable to contact slurm controller; run the"):
        list(slurm.queued_jobs())


@pytest.mark.slow
def test_a_slurm_job_cannot_be_judged_where_there_is_no_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TrainingError, match=r"scontrol: no such program.*where Slurm is"):
        slurm.job_state("1")
