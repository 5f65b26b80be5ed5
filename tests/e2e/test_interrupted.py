"""kill -9 in the middle: the same command finishes, with the same shards and the same last loss."""

import hashlib
import json
import shutil
import signal
import time

import psutil
import pytest

from tests.workspace import Workspace

pytestmark = pytest.mark.e2e

TINY = ("--workflow-profile", "test")


@pytest.fixture(scope="module")
def killed(built, tmp_path_factory):
    """A copy of the built tiny run whose pre-training is to be made."""
    workspace = built.copied_to(tmp_path_factory.mktemp("killed"))
    shutil.rmtree(workspace.root / "results/test/avsiam_tiny/pretrain")
    return workspace


def shard_hashes(workspace):
    shards = sorted((workspace.root / "results/test").glob("digits/shards/*/*.tar"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shards}


def losses(workspace, stage):
    path = workspace.root / "results/test/avsiam_tiny" / stage / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def stop_training(workspace):
    """kill -9 the training job itself, which lives outside snakemake's process group."""
    job = json.loads((workspace.root / "results/test/avsiam_tiny/pretrain/job.json").read_text())
    if psutil.pid_exists(int(job["job_id"])):
        controller = psutil.Process(int(job["job_id"]))
        for process in [*controller.children(recursive=True), controller]:
            process.kill()


@pytest.mark.exhaustive
def test_killed_while_transcoding_and_packing_gives_the_same_shards(built, tmp_path, shell_env):
    killed = Workspace.make(tmp_path, shell_env)
    results = killed.root / "results/test"
    transcoding = results / "logs/transcode_clips/digits"
    killed.kill_when(lambda: any(transcoding.rglob("*.log")), *TINY, "shards_digits")
    packing = results / "logs/pack_shard/digits"
    killed.kill_when(lambda: any(packing.rglob("*.log")), *TINY, "shards_digits")
    killed.snakemake(*TINY, "shards_digits")
    assert shard_hashes(killed) == shard_hashes(built)
    assert len(shard_hashes(built)) == 4
    assert not list(results.rglob("*.part"))


def test_killed_while_pretraining_gives_the_same_last_loss(built, killed, tmp_path):
    checkpoints = killed.root / "results/test/avsiam_tiny/pretrain/checkpoints"
    longer = ("--config", "pretrain={epochs: 20}", "--", "pretrain")
    killed.kill_when(lambda: any(checkpoints.glob("step_*")), *TINY, *longer)
    stop_training(killed)
    resumed_from = max(int(path.name.split("_")[1]) for path in checkpoints.glob("step_*"))
    assert 0 < resumed_from < 60
    killed.snakemake(*TINY, *longer)
    log = "".join(p.read_text() for p in checkpoints.parent.glob("jobs/*_log.out"))
    assert f"at step {resumed_from} of 60" in log

    whole = built.copied_to(tmp_path)
    whole.snakemake(*TINY, *longer)
    assert losses(killed, "pretrain") == losses(whole, "pretrain")
    assert [step for step, _ in losses(whole, "pretrain")] == list(range(1, 61))


def test_a_training_that_outlives_its_snakemake_is_joined_not_doubled(killed):
    run_dir = killed.root / "results/test/avsiam_tiny/pretrain"
    longer = ("--config", "pretrain={epochs: 21}", "--", "pretrain")
    before = (run_dir / "job.json").read_text()
    workflow = killed.start(*TINY, *longer)
    while (run_dir / "job.json").read_text() == before:
        time.sleep(0.05)
    first = json.loads((run_dir / "job.json").read_text())
    training = psutil.Process(int(first["job_id"]))
    for process in psutil.Process(workflow.pid).children(recursive=True):
        if process not in [training, *training.children(recursive=True)]:
            process.kill()
    workflow.kill()
    workflow.wait()
    assert training.is_running()
    killed.snakemake(*TINY, *longer)
    assert json.loads((run_dir / "job.json").read_text()) == first
    assert (run_dir / "done.json").is_file()


def start_long(workspace, run_dir):
    """Start a training of many epochs; return Snakemake once a state is saved."""
    shutil.rmtree(run_dir, ignore_errors=True)
    longer = ("--config", "pretrain={epochs: 2000}", "--", "pretrain")
    workflow = workspace.start(*TINY, *longer)
    wait_until(lambda: list(run_dir.glob("checkpoints/step_*/state.json")), workflow)
    return workflow


def wait_until(condition, workflow):
    while not condition():
        assert workflow.poll() is None, workflow.communicate()[0][-4000:]
        time.sleep(0.05)


def job_of(run_dir):
    """Its controller's process id."""
    return int(json.loads((run_dir / "job.json").read_text())["job_id"])


def test_an_interrupt_of_snakemake_alone_lets_the_training_save_and_end(killed):
    """As by a supervisor: a terminal would interrupt the whole group."""
    run_dir = killed.root / "results/test/avsiam_tiny/pretrain"
    workflow = start_long(killed, run_dir)
    controller = psutil.Process(job_of(run_dir))
    processes = [controller, *controller.children(recursive=True)]
    assert len(processes) >= 4  # controller, rank and two loaders
    workflow.send_signal(signal.SIGINT)
    output = workflow.communicate(timeout=240)[0]
    assert workflow.returncode != 0
    assert "interrupted by SIGINT: local job" in output
    assert "saves its state and ends" in output
    assert not psutil.wait_procs(processes, timeout=60)[1]
    log = (run_dir / f"jobs/{controller.pid}_0_log.out").read_text()
    assert "state saved" in log
    modes = {path.name: path.stat().st_mode & 0o77 for path in run_dir.glob("jobs/*")}
    assert modes
    assert not any(modes.values()), modes


def test_a_dead_loader_is_said_and_a_terminated_snakemake_lets_the_next_job_save(killed):
    run_dir = killed.root / "results/test/avsiam_tiny/pretrain"
    workflow = start_long(killed, run_dir)
    first = psutil.Process(job_of(run_dir))
    loaders = [loader for rank in first.children() for loader in rank.children()]
    assert len(loaders) == 2
    loaders[0].kill()
    wait_until(lambda: job_of(run_dir) != first.pid, workflow)
    said = f"loader process {loaders[0].pid} was killed by SIGKILL"
    assert said in (run_dir / f"jobs/{first.pid}_0_log.out").read_text()
    second = psutil.Process(job_of(run_dir))
    log = run_dir / f"jobs/{second.pid}_0_log.out"
    wait_until(lambda: log.exists() and "resuming" in log.read_text(), workflow)
    processes = [first, *loaders, second, *second.children(recursive=True)]
    workflow.send_signal(signal.SIGTERM)
    output = workflow.communicate(timeout=240)[0]
    assert workflow.returncode != 0
    assert f"interrupted by SIGTERM: local job {second.pid} saves its state and ends" in output
    assert not psutil.wait_procs(processes, timeout=60)[1]
    assert "state saved" in log.read_text()


@pytest.mark.exhaustive
def test_a_training_that_diverges_says_so_in_its_own_words(killed):
    output = killed.snakemake(
        *TINY, "--config", "pretrain={lr: 1e30}", "--", "pretrain", fails=True
    )
    last = output.splitlines()[-1]
    assert last.startswith("pretrain_model avsiam_tiny: TrainingError: step ")
    assert "is not finite; the step was not taken. Clips of the batch: avd_" in last
    assert "Traceback" not in output
