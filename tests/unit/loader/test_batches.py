"""Batches from loader processes: which cores those have."""

import os

import pytest

from pipeline_src.loader import processes
from pipeline_src.loader.batches import evaluation_batches
from pipeline_src.system.cores import MARK, num_cores
from tests.unit.loader.test_dataset import make_dataset


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or num_cores() < 2, reason="needs two cores, which CI has"
)
@pytest.mark.filterwarnings("error")  # of torch, that there are fewer cores than processes
def test_loader_processes_have_all_cores_where_their_parent_keeps_to_one(tmp_path, monkeypatch):
    """Those of a validation shared the training's own core."""
    allowed = os.sched_getaffinity(0)

    def note(_parent, *, asks_kernel):
        (tmp_path / str(os.getpid())).write_text(str(sorted(os.sched_getaffinity(0))))

    monkeypatch.setattr(processes, "end_with_parent", note)
    monkeypatch.setenv(MARK, ",".join(map(str, allowed)))
    os.sched_setaffinity(0, {min(allowed)})
    try:
        dataset = make_dataset(tmp_path, training=False)
        with evaluation_batches(dataset, batch_size=4, num_workers=2) as batches:
            assert sum(len(batch["index"]) for batch in batches) == len(dataset)
        assert os.sched_getaffinity(0) == {min(allowed)}
    finally:
        os.sched_setaffinity(0, allowed)
    assert [path.read_text() for path in tmp_path.iterdir()] == [str(sorted(allowed))] * 2
