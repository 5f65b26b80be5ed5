"""Where the ranks of a job meet: rank 0 finds a free port of its node, the others read it."""

import os
import random
import socket
import time
from contextlib import suppress
from pathlib import Path

import submitit
from submitit.helpers import TorchDistributedEnvironment

from pipeline_src.submit import slurm
from pipeline_src.submit.environment import PRIVATE
from pipeline_src.system.atomic import write_text
from pipeline_src.train.stop import StopFlag, StopRequestedError

PORT_SUFFIX = "_port"
# Ranks of one job start together; a network file system may show a new file a minute late.
PORT_TIMEOUT_SECONDS = 300.0
POLL_SECONDS = 0.2
# Below those that systems hand out to outgoing connections (Linux from 32,768 on): between the
# choice and its use torch is loaded.
MASTER_PORTS = range(20_000, 32_768)


def describe_ranks(environment: submitit.JobEnvironment, stop: StopFlag) -> None:
    """Set what torch.distributed reads: RANK, WORLD_SIZE, MASTER_ADDR and so on.

    Raises:
        TimeoutError: rank 0 has not said its port, or none is free.
        StopRequestedError: a signal came before it did.
    """
    if environment.num_tasks == 1:
        return
    ranks = TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    os.environ["MASTER_ADDR"] = _address(ranks.master_addr, environment)
    os.environ["MASTER_PORT"] = str(_port(environment, stop))


def forget_ports(folder: Path) -> None:
    """Remove the ports of earlier jobs, whose ids the scheduler or the system may give again.

    Those that a rank may still wait for stay.
    """
    for path in folder.glob(f"*{PORT_SUFFIX}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > PORT_TIMEOUT_SECONDS:
                path.unlink()


def _port(environment: submitit.JobEnvironment, stop: StopFlag) -> int:
    """Return the port that rank 0 found free.

    A port computed from the job's id, as submitit's, may be another job's of the same node, or of
    an outgoing connection.

    Raises:
        StopRequestedError: the job is to stop before the ranks have met.
        TimeoutError: rank 0 finds no free port, or the others wait too long for it.
    """
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")  # a requeued job keeps its id
    path = environment.paths.folder / f"{environment.job_id}_{restart}{PORT_SUFFIX}"
    if environment.global_rank == 0:
        port = _free_port()
        write_text(path, str(port))
        path.chmod(PRIVATE)
        return port
    deadline = time.monotonic() + PORT_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if stop.requested:
            raise StopRequestedError("stopped before the ranks had met")
        list(path.parent.iterdir())  # makes a client of a network file system look anew
        with suppress(FileNotFoundError):
            return int(path.read_text(encoding="utf-8"))
        time.sleep(POLL_SECONDS)
    raise TimeoutError(
        f"rank {environment.global_rank} waited {PORT_TIMEOUT_SECONDS:.0f} s for rank 0's {path}"
    )


def _free_port() -> int:
    for port in random.SystemRandom().sample(MASTER_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise TimeoutError("no port is free among 100 that were tried")


def _address(host: str, environment: submitit.JobEnvironment) -> str:
    if environment.num_nodes == 1:
        return "127.0.0.1"  # host names need not resolve on a laptop
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return slurm.node_address(host)
    return host
