"""One call of a training: its jobs, their code, and where its end is published."""

import os
import subprocess
import sys

import pytest

from pipeline_src.config import SubmitConfig
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.submit import run as submit_run
from pipeline_src.submit import slurm
from pipeline_src.submit.request import JobRequest


def test_every_job_of_one_call_runs_the_code_of_the_first(tmp_path, monkeypatch):
    """A job that died of something else than its own error is followed by another one."""
    frozen, submitted = [], []

    def freeze(folder):
        frozen.append(folder / f"edit_{len(frozen)}")
        return frozen[-1]

    def submit(spec, request, cluster, *, freeze, without_gpu):
        submitted.append(freeze())
        return submit_run.JobRecord(cluster, "1", "", str(tmp_path), 0.0, "here")

    spec = TrainSpec.model_construct(run_dir=tmp_path, stage="pretrain")
    monkeypatch.setattr(TrainSpec, "fingerprint", lambda self: "same")
    for name, value in {
        "freeze_code": freeze,
        "submit": submit,
        "_join": lambda spec, cluster: None,
        "_wait": lambda *job: slurm.JobState("FAILED"),
        "_finished": lambda spec: tmp_path if len(submitted) == 2 else None,
        "saved_progress": lambda *run: (0, 9),
    }.items():
        monkeypatch.setattr(submit_run, name, value)
    done = submit_run.run_and_wait(spec, SubmitConfig(cluster="local"), JobRequest(), threads=1)
    assert done == tmp_path
    assert submitted == [tmp_path / "code/edit_0"] * 2


@pytest.mark.parametrize(("is_trained", "used"), [(True, "local"), (False, "slurm")])
def test_only_a_whole_end_is_published_here_instead_of_on_the_cluster(
    tmp_path, monkeypatch, is_trained, used
):
    """With damaged weights the training began anew on the login node."""
    clusters = []

    def submit(spec, request, cluster, *, freeze, without_gpu):
        clusters.append(cluster)
        return submit_run.JobRecord(cluster, "1", "", str(tmp_path), 0.0, "here")

    spec = TrainSpec.model_construct(run_dir=tmp_path, stage="pretrain")
    monkeypatch.setattr(TrainSpec, "fingerprint", lambda self: "same")
    for name, value in {
        "submit": submit,
        "pick_cluster": lambda cluster: "slurm",
        "is_trained": lambda *run: is_trained,
        "saved_progress": lambda *run: (9, 9),
        "_join": lambda spec, cluster: None,
        "_wait": lambda *job: slurm.JobState("COMPLETED"),
        "_finished": lambda spec: tmp_path,
    }.items():
        monkeypatch.setattr(submit_run, name, value)
    submit_run.run_and_wait(spec, SubmitConfig(cluster="slurm"), JobRequest(), threads=1)
    assert clusters == [used]


@pytest.mark.slow
def test_the_waiter_loads_no_torch(root):
    code = "import sys, pipeline_src.submit.run; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
