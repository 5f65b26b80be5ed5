"""What a training job inherits, which code it runs, and which signals reach it."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline_src.submit.environment import freeze_code, ignore_terminal_signals, job_environment

LEAKS = {
    "SLURM_CPU_BIND": "mask_cpu:0x1",
    "SLURM_CPUS_PER_TASK": "4",
    "SLURM_TRES_PER_TASK": "cpu:3",
    "SLURM_ARRAY_JOB_ID": "12",
    "SRUN_CPUS_PER_TASK": "1",
    "SUBMITIT_EXECUTOR": "slurm",
    "SNAKEMAKE_PROFILE": "slurm",
    "MASTER_ADDR": "elsewhere",
    "WORLD_SIZE": "8",
}


@pytest.mark.parametrize("name", sorted(LEAKS))
def test_a_job_does_not_inherit(monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, LEAKS[name])
    with job_environment(tmp_path):
        assert name not in os.environ
    assert os.environ[name] == LEAKS[name]


def test_a_job_keeps_what_names_its_cluster_and_account(monkeypatch, tmp_path):
    kept = {"SLURM_CONF": "/etc/here.conf", "SBATCH_ACCOUNT": "mine", "HF_HOME": "/data"}
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    with job_environment(tmp_path):
        assert {name: os.environ[name] for name in kept} == kept


@pytest.mark.slow
def test_a_job_imports_the_frozen_code_even_from_the_checkout(tmp_path, root):
    code = freeze_code(tmp_path)
    ask = "import pipeline_src.train.stop as module; print(module.__file__)"
    with job_environment(code):
        command = [sys.executable, "-c", ask]
        said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(code / "pipeline_src/train/stop.py")


@pytest.mark.slow
def test_the_same_code_is_frozen_once_and_keeps_its_commit(tmp_path):
    first = freeze_code(tmp_path)
    assert freeze_code(tmp_path) == first
    assert (first / "COMMIT").read_text()
    (tmp_path / "0123456789ab").mkdir()
    (first / "COMMIT").unlink()
    first.rename(tmp_path / "older")
    assert freeze_code(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_does_not_reach_a_local_job():
    before = signal.getsignal(signal.SIGINT)
    wait = [sys.executable, "-c", "print('up', flush=True); input()"]
    with ignore_terminal_signals():
        process = subprocess.Popen(wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    process.communicate("\n", timeout=120)
    assert process.returncode == 0
    assert signal.getsignal(signal.SIGINT) is before
