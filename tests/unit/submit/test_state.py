"""The record of a training job, and whether it is alive."""

import subprocess
import sys

import psutil
import pytest

from pipeline_src.errors import TrainingError
from pipeline_src.submit.state import JobRecord, read_job


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
