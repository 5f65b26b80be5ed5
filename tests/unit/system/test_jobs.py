"""The workflow lock, the record of a training job, and what a person sees of its progress."""

import io
import json
import os
import re
import subprocess
import sys

import psutil
import pytest

from pipeline_src.errors import StageError, TrainingError
from pipeline_src.submit.progress import TrainingProgress, last_training_row
from pipeline_src.submit.state import JobRecord, read_job
from pipeline_src.system.executor import announce_executor, pick_cluster
from pipeline_src.system.lock import hold_results
from pipeline_src.system.progress import CLEAR_LINE

HOLD = (
    "import sys, pathlib, pipeline_src.system.lock as l; l.hold_results(pathlib.Path(sys.argv[1]))"
)


def hold_elsewhere(folder, root):
    code = HOLD + "; print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.slow
def test_a_held_folder_is_refused_and_free_again_after_kill_9(tmp_path, root):
    holder = hold_elsewhere(tmp_path, root)
    with pytest.raises(StageError, match=f"in use by process {holder.pid} on .*--config results="):
        hold_results(tmp_path)
    holder.kill()
    holder.wait()
    hold_results(tmp_path)


@pytest.mark.slow
def test_a_local_job_is_known_by_its_process_and_start(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    record = JobRecord("local", str(process.pid), "f", "jobs", started)
    record.save(tmp_path)
    assert read_job(tmp_path) == record
    assert record.state().is_alive
    reused = JobRecord("local", str(process.pid), "f", "jobs", started - 100)
    assert not reused.state().is_alive
    assert record.stop(tmp_path)
    assert read_job(tmp_path).stopping
    process.wait()
    assert not record.state().is_alive


def test_a_local_job_of_another_machine_is_not_taken_for_dead(tmp_path):
    record = JobRecord("local", "1", "f", "results/run/jobs", 0.0, host="elsewhere")
    with pytest.raises(TrainingError, match="process 1 on elsewhere may still train this run"):
        record.state()


def test_a_damaged_record_counts_as_none(tmp_path):
    (tmp_path / "job.json").write_text('{"cluster": "lo')
    assert read_job(tmp_path) is None


def test_training_goes_where_the_other_jobs_go(monkeypatch):
    monkeypatch.delenv("PIPELINE_EXECUTOR", raising=False)
    assert pick_cluster("auto") == "local"
    for executor, cluster in (("slurm", "slurm"), ("local", "local"), ("cluster-generic", "local")):
        monkeypatch.setenv("PIPELINE_EXECUTOR", "local")  # restored afterwards
        announce_executor(executor)
        assert pick_cluster("auto") == cluster
    assert pick_cluster("slurm") == "slurm"


def row(step, seconds, **values):
    base = {"step": step, "num_steps": 100, "samples_seen": step * 50, "seconds": seconds}
    return json.dumps({**base, "loss": 1.5, **values}) + "\n"


def write_rows(folder, *rows):
    (folder / "metrics.jsonl").write_text("".join(rows))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def last_line(stream):
    return stream.getvalue().rstrip("\n").split(CLEAR_LINE)[-1]


def test_progress_gives_rate_time_left_loss_and_the_last_validation(tmp_path):
    stream = Terminal()
    progress = TrainingProgress("pretrain x", tmp_path, stream)
    progress.show()
    assert last_line(stream) == "pretrain x: starting"
    write_rows(tmp_path, row(10, 5.0))
    progress.show()
    val = json.dumps({"step": 20, "val": {"audio": 0.5, "audio_video": 0.75}}) + "\n"
    write_rows(tmp_path, row(10, 5.0), row(20, 10.0), val)
    progress.close()
    assert re.fullmatch(
        r"pretrain x: 20%\|.*\| 20/100 steps, .*s/steps?, .* left, "
        r"100 clips/s, loss 1\.500, val audio_video 0\.750",
        last_line(stream).replace("steps/s", "s/steps"),
    ), last_line(stream)
    assert stream.getvalue().endswith("\n")


def test_rows_of_an_earlier_configuration_are_not_shown(tmp_path):
    write_rows(tmp_path, row(100, 50.0, loss=0.1))
    stream = Terminal()
    progress = TrainingProgress("finetune x", tmp_path, stream)
    progress.show()
    assert "loss" not in stream.getvalue()
    write_rows(tmp_path, row(1, 1.0))
    progress.show(now=True)
    assert "1/100 steps" in last_line(stream)
    assert "0.100" not in stream.getvalue()


def test_what_it_waits_for_is_said_once_where_nobody_watches(tmp_path, caplog):
    progress = TrainingProgress("finetune x", tmp_path, io.StringIO())
    with caplog.at_level("INFO"):
        for state in ("PENDING", "PENDING", "RUNNING"):
            progress.show(waiting=state)
    assert caplog.messages == ["finetune x: PENDING", "finetune x: RUNNING"]


def test_the_last_row_is_the_last_whole_one_with_a_loss(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    val = json.dumps({"step": 20, "val": {"audio": 0.5}}) + "\n"
    metrics.write_text(row(20, 2.0) + val + '{"step": 30, "lo')
    assert last_training_row(metrics)["step"] == 20
    assert last_training_row(tmp_path / "none") is None


@pytest.mark.slow
def test_the_waiter_loads_no_torch(root):
    code = "import sys, pipeline_src.submit.run; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
