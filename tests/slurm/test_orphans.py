"""Chunk jobs of a Snakemake that was killed: none runs beside those of the next call."""

import pytest

from tests.slurm.training import SLURM
from tests.workspace import Workspace

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.mark.exhaustive
def test_chunk_jobs_that_were_left_are_cancelled_first(tmp_path, slurm_env, cluster):
    workspace = Workspace.make(tmp_path, slurm_env)
    cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        workspace.kill_when(cluster.jobs, *SLURM, "download_digits")
        left = cluster.jobs()
        assert left
    finally:
        cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
    cluster.run("scontrol", "hold", *left)
    output = workspace.snakemake(*SLURM, "download_digits")
    assert "Cancelled chunk jobs that an earlier call left" in output
    assert len(list(workspace.root.glob("results/test/digits/download/*/*.json"))) == 4
    assert not cluster.jobs()
