"""Which job of the queue is a run's own."""

import pytest

from pipeline_src.submit import slurm
from pipeline_src.submit.slurm import QueuedJob
from pipeline_src.submit.submission import find_running


class Spec:
    """A run and its configuration, as far as a mark names them."""

    def __init__(self, run_dir):
        self.run_dir = run_dir

    def fingerprint(self):
        return "c" * 64


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_job_of_this_configuration_goes_before_an_earlier_one(tmp_path, monkeypatch, order):
    """The first in the queue was taken; then this one was stopped, and a third sent beside both."""
    marks = [f"train {tmp_path} {'c' * 16}", f"train {tmp_path} {'e' * 16}"]
    jobs = [QueuedJob(str(7 + place), "", marks[place]) for place in order]
    monkeypatch.setattr(slurm, "queued_jobs", lambda: iter(jobs))
    record = find_running(Spec(tmp_path), "slurm")
    assert (record.job_id, record.fingerprint) == ("7", "c" * 64)


def test_a_job_of_an_earlier_configuration_alone_is_known_as_one(tmp_path, monkeypatch):
    jobs = [QueuedJob("8", "", f"train {tmp_path} {'e' * 16}")]
    monkeypatch.setattr(slurm, "queued_jobs", lambda: iter(jobs))
    assert find_running(Spec(tmp_path), "slurm").fingerprint == "of an earlier configuration"
