"""What a training job asks for and inherits, and what is understood of Slurm's answers."""

import os
import signal
import subprocess
import sys

import pytest
import yaml

from pipeline_src.config import SubmitConfig
from pipeline_src.errors import ConfigError, TrainingError
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.submit import run as submit_run
from pipeline_src.submit import slurm
from pipeline_src.submit.environment import freeze_code, ignore_terminal_signals, job_environment
from pipeline_src.submit.request import JobRequest
from pipeline_src.system.executor import keep_slurm_conf, replaced_resources

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


def test_what_the_command_line_takes_from_the_profile_is_found(root):
    profile = root / "profiles/slurm/profile.yaml"
    whole = yaml.safe_load(profile.read_text())["set-resources"]
    assert list(replaced_resources(profile, whole)) == []
    lost = dict(replaced_resources(profile, {"pretrain_model": {"nodes": 4}}))
    assert lost.keys() == whole.keys()
    assert {"gpus_per_node", "mem_mb", "runtime"} < set(lost["pretrain_model"])
    assert "nodes" not in lost["pretrain_model"]


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


def test_resources_become_a_request():
    resources = {"nodes": 2, "tasks_per_node": 4, "mem_mb": 8000, "slurm_account": "a", "disk": 1}
    request = JobRequest.from_resources(resources)
    assert request.num_ranks == 8
    assert request.slurm_parameters() == {"slurm_account": "a", "slurm_mem": "8000M"}
    assert request.threads(rule_threads=8) == 2
    assert JobRequest(cpus_per_task=6).threads(rule_threads=1) == 6


@pytest.mark.parametrize(("runtime", "delay"), [(1440, 120), (8, 120), (2, 30)])
def test_the_warning_comes_early_enough_but_leaves_time_to_work(runtime, delay):
    assert JobRequest(runtime=runtime).signal_delay_seconds == delay


def test_further_options_are_checked():
    request = JobRequest(slurm_extra="--reservation=x '--exclude=n7,n8' --exclusive")
    assert request.extra_options() == {"reservation": "x", "exclude": "n7,n8", "exclusive": True}
    with pytest.raises(ConfigError, match="slurm_extra: '-p' is not of the form --option=value"):
        JobRequest(slurm_extra="-p gpu").extra_options()


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


@pytest.mark.slow
def test_slurm_conf_survives_a_plugin_that_drops_it(tmp_path, monkeypatch, root):
    """The commands are found through wrappers that put the variable back."""
    wrappers = root / "profiles/slurm/bin"
    for name in ("sbatch", "srun"):
        write_program(tmp_path, name, 'echo "$SLURM_CONF $*"')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CONF", "/site/slurm.conf")
    monkeypatch.setenv("PIPELINE_SLURM_CONF", "")  # restored afterwards
    keep_slurm_conf(wrappers)
    keep_slurm_conf(wrappers)
    assert os.environ["PATH"].count(str(wrappers)) == 1
    monkeypatch.delenv("SLURM_CONF")
    said = subprocess.run(["srun", "-n1", "a b"], capture_output=True, text=True, check=True)
    assert said.stdout == "/site/slurm.conf -n1 a b\n"


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
