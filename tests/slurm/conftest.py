"""A running three-node cluster for the whole session, and copies of the repository that use it."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from tests.slurm.cluster import HOW_TO_INSTALL, Cluster, missing_programs
from tests.slurm.training import SLURM, TWO_NODES
from tests.workspace import Workspace


def free_port_range(size: int) -> int:
    """First of ``size`` ports in a row that nothing listens on; each test process looks apart."""
    start = 17000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for first in range(start, start + 1000, size):
        if all(_is_free(port) for port in range(first, first + size)):
            return first
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="session")
def cluster():
    """Three idle nodes."""
    if missing := missing_programs():
        pytest.skip(f"no Slurm: {', '.join(missing)} not found; {HOW_TO_INSTALL}, as .ci/run does")
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        cluster = Cluster(Path(folder) / "cluster", free_port_range(4))
        cluster.start()
        yield cluster
        cluster.stop()


@pytest.fixture(scope="session")
def slurm_env(cluster, shell_env):
    """A user's shell on the login node; gloo finds its peers on loopback."""
    return {**shell_env, **cluster.env, "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture(scope="session")
def on_cluster(tmp_path_factory, slurm_env, cluster) -> Workspace:
    """A copy in which the tiny run, fine-tuned from scratch, was built by ``--profile slurm``."""
    workspace = Workspace.make(tmp_path_factory.mktemp("cluster"), slurm_env)
    # Nothing asks for a pre-training that no fine-tuning begins from, but a test looks at it.
    targets = ("results/test/avsiam_tiny/pretrain/done.json", "all")
    workspace.snakemake(*SLURM, *TWO_NODES, "--config", FROM_SCRATCH, "--", *targets)
    return workspace


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, built, slurm_env):
    """A copy of the built tiny run on the cluster."""
    workspace = Workspace.make(tmp_path_factory.mktemp("disturbed"), slurm_env)
    built.copy_results_to(workspace)
    return workspace


# Without random masks and augmentation a step does not depend on how its batch is cut.
FROM_SCRATCH = (
    "runs={avsiam_tiny: {finetune: {init: scratch, augment: {noise: 0, time_shift: 0,"
    " freq_shift: 0, gain: 0, freq_mask: 0, time_mask: 0, image_shift: 0, image_rotate: 0,"
    " crop_scale: 1}, amp: false}}}"  # bfloat16 sums of another order differ by processor
)
