"""One training per folder, a watch that it makes progress, and the first cause when it does not."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from pipeline_src.errors import CheckpointError, LoaderError, RunInUseError, TrainingError
from pipeline_src.runs import lease
from pipeline_src.runs.done import read_done, write_done
from pipeline_src.runs.lease import Holder, held, read_holder, refuse_if_trained
from pipeline_src.runs.spec import done_fingerprint, load_spec, saved_progress
from pipeline_src.submit.explain import explain_end, first_cause
from pipeline_src.submit.failures import forget_failure, read_failures, record_failure
from pipeline_src.submit.peers import StuckPeers
from pipeline_src.submit.progress import StallWatch
from pipeline_src.submit.slurm import JobState
from pipeline_src.submit.state import JobRecord, read_job, start_mark
from pipeline_src.train.alive import Watchdog
from tests.unit.runs.test_checkpoint import make_model, save

pytestmark = pytest.mark.slow

HOLD = """
import sys, pathlib, pipeline_src.runs.lease as l
with l.held(pathlib.Path(sys.argv[1])) as lease:
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The same waits, shorter."""
    monkeypatch.setattr(lease, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(lease, "SILENCE_SECONDS", 0.6)
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr("pipeline_src.train.alive.BEAT_SECONDS", 0.05)


@pytest.fixture
def first(tmp_path, root):
    """Another process that trains in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root), "SLURM_JOB_ID": "47"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_training_is_refused_and_told_of_the_first(tmp_path, first):
    named = rf"process {first.pid} on {socket.gethostname()} \(slurm job 47\).*`scancel 47`"
    with pytest.raises(RunInUseError, match=named), held(tmp_path):
        pass
    with pytest.raises(RunInUseError, match=named):
        refuse_if_trained(tmp_path)
    first.kill()
    first.wait()
    refuse_if_trained(tmp_path)
    with held(tmp_path):  # the lock died with its holder
        assert read_holder(tmp_path).process == os.getpid()
    assert read_holder(tmp_path) is None


def test_one_that_ends_in_time_is_waited_for(tmp_path, first, monkeypatch):
    monkeypatch.setattr(lease, "GRACE_SECONDS", 60)
    threading.Timer(0.3, first.stdin.close).start()
    with held(tmp_path):
        assert read_holder(tmp_path).job == ""


def beat_elsewhere(path, started, ended):
    with path.open("wb", buffering=0) as file:
        for beats in range(10_000):
            record = {"host": "elsewhere", "process": 7, "job": "", "beats": beats}
            # Over the old record, as a holder writes: a reader must never meet an empty file.
            os.pwrite(file.fileno(), json.dumps(record).ljust(lease.RECORD_BYTES).encode(), 0)
            started.set()
            if ended.wait(0.05):
                return


def test_a_holder_whose_lock_cannot_be_seen_is_known_by_its_count(tmp_path, monkeypatch):
    """As over a network file system that keeps locks within one machine."""
    started, ended = threading.Event(), threading.Event()
    written = (tmp_path / "lease.json", started, ended)
    other = threading.Thread(target=beat_elsewhere, args=written)
    other.start()
    try:
        assert started.wait(60)
        monkeypatch.setattr(lease, "SILENCE_SECONDS", 60)  # a busy machine may be late
        with pytest.raises(RunInUseError, match=r"process 7 on elsewhere \(started by hand\)"):
            lease.Lease(tmp_path)
    finally:
        ended.set()
        other.join()
    monkeypatch.setattr(lease, "SILENCE_SECONDS", 0.6)
    with held(tmp_path):  # it counts no more: dead
        assert read_holder(tmp_path).host == socket.gethostname()


def test_a_damaged_lease_is_no_obstacle(tmp_path):
    (tmp_path / "lease.json").write_bytes(b"\xff{")
    with held(tmp_path):
        assert read_holder(tmp_path)


def test_a_training_that_stands_still_is_said_once_and_when_it_continues(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    beats = []
    with Watchdog(0.1 / 60, lambda *told: beats.append(told)) as watchdog:
        watchdog.heartbeat("step 3 of 90")
        time.sleep(0.6)
        watchdog.heartbeat("step 4 of 90")
    told = [record.message for record in caplog.records]
    assert [text for text in told if "no sign of life" in text and "step 3 of 90" in text]
    assert sum("no sign of life" in text for text in told) == 1
    assert "progress again: step 4 of 90" in told
    assert (1, "step 3 of 90") in beats


def test_the_waiter_shows_a_training_that_stands_still(tmp_path):
    metrics, log = tmp_path / "metrics.jsonl", tmp_path / "0.out"
    with held(tmp_path) as own:
        own.beat(5, "step 5 of 9")
        watch = StallWatch(tmp_path, metrics, 0.2 / 60)
        assert watch.look(log, is_running=True) == ""
        time.sleep(0.3)
        own.beat(5, "step 5 of 9")  # it runs, and does nothing
        assert "no sign of life for " in watch.look(log, is_running=True)
        assert f"the last: step 5 of 9; see {log}" in watch.look(log, is_running=True)
        assert watch.look(log, is_running=False) == ""  # back in the queue
        time.sleep(0.3)
        own.beat(6, "step 6 of 9")
        assert watch.look(log, is_running=True) == ""
        never = StallWatch(tmp_path, metrics, 0)
        assert never.look(log, is_running=True) == ""


GLOO = "[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"


def make_job(folder, num_ranks=2):
    for rank in range(num_ranks):
        (folder / f"5_{rank}_log.out").write_text(f"last line of rank {rank}\n")
    return JobRecord("local", "5", "f", str(folder))


def test_the_first_rank_that_failed_by_itself_speaks(tmp_path):
    job, gone = make_job(tmp_path, 3), JobState("GONE")
    record_failure(tmp_path, "5", 0, RuntimeError(GLOO))
    record_failure(tmp_path, "5", 1, ValueError("need at least one array to concatenate"))
    record_failure(tmp_path, "5", 2, KeyError("later"))
    (tmp_path / "5_9_failure.json").write_text("{torn")
    assert [failure.rank for failure in read_failures(tmp_path, "5")] == [1, 2, 0]
    said = explain_end(job, gone)
    assert "rank 1: ValueError: need at least one array to concatenate. Run the same" in said
    assert "last line of rank 1" in said
    assert "Connection closed" not in said
    record_failure(tmp_path, "5", 2, TrainingError("step 3: loss=nan is not finite"))
    forget_failure(tmp_path, "5", 1)
    assert explain_end(job, gone) == "step 3: loss=nan is not finite"


def test_a_rank_that_was_killed_is_named_by_its_silence(tmp_path):
    job = make_job(tmp_path)
    record_failure(tmp_path, "5", 0, RuntimeError(GLOO))
    assert first_cause(job) == "rank 1 ended silently: killed, or out of memory?"
    said = explain_end(job, JobState("FAILED", "exit code 1:0"))
    assert "ended as FAILED (exit code 1:0) without a result. rank 1 ended silently" in said
    assert "last line of rank 1" in said


def test_a_dead_loader_is_no_fault_of_the_training(tmp_path):
    make_job(tmp_path)
    record_failure(tmp_path, "5", 1, LoaderError("loader process 7 was killed"))
    assert read_failures(tmp_path, "5")[0].cause == "fault"


def test_peers_that_wait_for_a_rank_that_failed_are_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline_src.submit.peers.PEERS_SECONDS", 0.1)
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE) as job:
        process = psutil.Process(job.pid)
        record = JobRecord("local", str(job.pid), "f", str(tmp_path), start_mark(process))
        peers = StuckPeers(record)
        record_failure(tmp_path, record.job_id, 0, RuntimeError(GLOO))
        peers.look()
        time.sleep(0.2)
        peers.look()  # an echo alone says nothing: the rank that failed may come yet
        assert job.poll() is None
        record_failure(tmp_path, record.job_id, 1, ValueError("of its own"))
        peers.look()
        assert job.poll() is None
        time.sleep(0.2)
        peers.look()
        job.wait(timeout=60)
        assert not record.state().is_alive


DAMAGE = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: "[1, 2]",
    "no keys": lambda text: "{}",
    "null": lambda text: json.dumps(dict.fromkeys(json.loads(text))),
    "bytes": lambda text: "\0\0\0",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with every record of a finished training."""
    folder = tmp_path_factory.mktemp("finished")
    keys = ("samples_seen", "seconds", "config_sha256", "data_sha256", "seed", "git_commit")
    step = save(folder / "checkpoints", 3, make_model())
    state = json.loads((step / "state.json").read_text())
    state |= {**dict.fromkeys(keys, 0), "versions": {}, "num_steps": 3, "precision": "float32"}
    (step / "state.json").write_text(json.dumps(state))
    from pipeline_src.runs.checkpoint import read_checkpoint

    write_done(folder, read_checkpoint(step), {}, None)
    JobRecord("local", "5", "f", "jobs", 1.5).save(folder)
    (folder / "spec.json").write_text('{"stage": "pretrain", "recipe": {}}')
    return folder


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_record_is_one_sentence_with_the_next_step(finished, tmp_path, how):
    readers = {
        "done.json": (read_done, done_fingerprint),
        "spec.json": (load_spec,),
        "checkpoint/state.json": (lambda path: read_done(path.parents[1] / "done.json"),),
    }
    for name, calls in readers.items():
        folder = tmp_path / name.replace("/", "_")
        shutil.copytree(finished, folder)
        path = folder / name
        path.write_text(DAMAGE[how](path.read_text()))
        for call in calls:
            with pytest.raises(CheckpointError, match=r"; delete ") as caught:
                call(path)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)
    folder = tmp_path / "rest"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "checkpoint")  # else that is what the training has reached
    for name in ("job.json", "checkpoints/step_00000003/state.json"):
        path = folder / name
        path.write_text(DAMAGE[how](path.read_text()))
    assert read_job(folder) is None
    assert saved_progress(folder, "f") == (0, 1)
    assert saved_progress(finished, "f") == (3, 3)
    assert read_job(finished)


def test_a_local_job_is_known_though_the_clock_was_set(monkeypatch):
    """psutil's time of creation moves with the clock: it is counted from the machine's start."""
    process = psutil.Process()
    record = JobRecord("local", str(process.pid), "f", "jobs", start_mark(process))
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 1e9)
    assert record.state().is_alive
    assert not JobRecord("local", str(process.pid), "f", "jobs", 1.0).state().is_alive


def test_who_holds_is_said_with_how_to_end_it():
    assert Holder("n1", 3, "local job 2").how_to_end == "kill 3"
    assert str(Holder("n1", 3)) == "process 3 on n1 (started by hand)"
