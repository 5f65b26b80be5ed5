"""Where the ranks of a job meet."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from pipeline_src.submit import rendezvous
from pipeline_src.train.stop import StopFlag, StopRequestedError


@pytest.fixture(autouse=True)
def environment_restored(monkeypatch):
    stub = SimpleNamespace(master_addr="n1", export=lambda **_: stub)
    monkeypatch.setattr(rendezvous, "TorchDistributedEnvironment", lambda: stub)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)


def environment(folder, rank, job_id="5"):
    paths = SimpleNamespace(folder=folder)
    return SimpleNamespace(
        num_tasks=2, num_nodes=1, job_id=job_id, global_rank=rank, paths=paths
    )  # fmt: skip


def port_of(folder, rank, **settings):
    rendezvous.describe_ranks(environment(folder, rank, **settings), StopFlag())
    return int(os.environ["MASTER_PORT"])


def test_ranks_of_a_job_meet_at_the_port_that_rank_0_found_free(tmp_path):
    with ThreadPoolExecutor() as pool:
        later = pool.submit(rendezvous._port, environment(tmp_path, 1), StopFlag())
        time.sleep(0.5)
        assert not later.done()
        port = port_of(tmp_path, 0)
        assert later.result(timeout=30) == port
    assert 1024 < port < 32_768, "none that the system hands out to an outgoing connection"
    with socket.socket() as taken:
        taken.bind(("", port))


def test_jobs_of_one_id_on_one_machine_do_not_meet(tmp_path, monkeypatch):
    """Two clusters count alike, and a laptop may hold both."""
    (tmp_path / "other").mkdir()
    port = port_of(tmp_path, 0)
    with socket.socket() as taken:
        taken.bind(("", port))
        taken.listen()
        assert port_of(tmp_path / "other", 0) != port
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr(rendezvous, "PORT_TIMEOUT_SECONDS", 0.5)
    with pytest.raises(TimeoutError, match=r"rank 1 waited .*/5_1_port"):
        port_of(tmp_path, 1)  # not at the port from before the requeue


def test_an_earlier_job_of_the_same_id_is_forgotten(tmp_path):
    port = port_of(tmp_path, 0)
    rendezvous.forget_ports(tmp_path)
    assert port_of(tmp_path, 1) == port, "a rank may just be waiting for it"
    (path,) = tmp_path.iterdir()
    os.utime(path, (0, 0))
    rendezvous.forget_ports(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_signal_ends_the_waiting(tmp_path):
    stop = StopFlag()
    stop.received = signal.SIGTERM
    with pytest.raises(StopRequestedError):
        rendezvous.describe_ranks(environment(tmp_path, 1), stop)
