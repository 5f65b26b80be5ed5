"""A real Slurm of three nodes on this machine, in one folder, as the user who starts it.

    python -m tests.slurm.cluster up          # prints the line that makes your shell use it
    python -m tests.slurm.cluster node-down n2
    python -m tests.slurm.cluster node-up n2
    python -m tests.slurm.cluster down

Uses the Slurm and munge that are installed and installs nothing. No accounting database, as on many
small clusters; GPUs are /dev/null, so that requests for them are scheduled. The nodes claim more
cores and memory than the machine has, so that the profile of the workflow fits as it is.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

NODES = ("n1", "n2", "n3")
FIRST_PORT = 17000
START_SECONDS = 180
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
HOW_TO_INSTALL = "apt-get install slurm-wlm munge  (Debian, Ubuntu)"
SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/sbin"
DEFAULT_FOLDER = Path("/tmp") / f"av-slurm-{os.getuid()}"

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
SlurmctldTimeout=30
SlurmdTimeout=8
KillWait=30
MinJobAge=86400
ReturnToService=2
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=DEFAULT CPUs=16 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
NodeName=n[1-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}]
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""
GRES_CONF = "NodeName=n[1-3] Name=gpu File=/dev/null\n"


def missing_programs() -> list[str]:
    """Programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if not find_program(name)]


def find_program(name: str) -> str | None:
    """Path of a program; daemons often lie in folders that are not on a user's PATH."""
    return shutil.which(name, path=os.environ["PATH"] + os.pathsep + SYSTEM_FOLDERS)


class Cluster:
    """Three nodes, their controller and their munge, all of whose files lie in ``folder``.

    Args:
        folder: a short path: munge listens on a socket in it.
        first_port: the controller's port; the nodes take the three that follow.
    """

    def __init__(self, folder: Path, first_port: int = FIRST_PORT) -> None:
        self.folder = folder
        self.config = folder / "slurm.conf"
        self.first_port = first_port

    @property
    def env(self) -> dict[str, str]:
        """What a user's shell needs to talk to this cluster."""
        return {"SLURM_CONF": str(self.config)}

    def start(self) -> None:
        """Start every daemon and wait until the three nodes are idle.

        Raises:
            RuntimeError: Slurm is not installed, or a daemon did not come up; names its log.
        """
        if missing := missing_programs():
            raise RuntimeError(f"not installed: {', '.join(missing)}; {HOW_TO_INSTALL}")
        self.stop()
        self._write_files()
        self._start_munge()
        self._daemon("slurmctld", "-c", "-f", str(self.config))
        for node in NODES:
            self._daemon("slurmd", "-f", str(self.config), "-N", node)
        self._wait(lambda: self.states() == dict.fromkeys(NODES, "idle"), "the nodes are not idle")

    def stop(self) -> None:
        """Kill every daemon and every job of this cluster.

        Raises:
            RuntimeError: the folder holds something else.
        """
        if self.folder.exists() and not (self.config.is_file() and self._is_mine()):
            raise RuntimeError(f"{self.folder} is no cluster of yours; name another --folder")
        for name in ("slurmctld", "munged"):
            self._kill(name)
        for node in NODES:
            self.node_down(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_mine(self) -> bool:
        return self.folder.stat().st_uid == os.getuid()

    def node_down(self, node: str) -> None:
        """Lose a node: its daemon and everything that runs on it die at once."""
        for step in self._job_steps(node):
            for process in [*step.children(recursive=True), step]:
                _kill(process)
        self._kill(f"slurmd.{node}")

    def node_up(self, node: str) -> None:
        """Bring a lost node back."""
        self._daemon("slurmd", "-f", str(self.config), "-N", node)
        self._wait(lambda: self.states().get(node) in ("idle", "mixed", "allocated"), node)

    def states(self) -> dict[str, str]:
        """Node name -> state, as sinfo says."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return {name: state.rstrip("*") for name, state in (line.split() for line in lines)}

    def jobs(self) -> dict[str, str]:
        """Job id -> state of every job in the queue."""
        lines = self.run("squeue", "--noheader", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def run(self, *command: str) -> str:
        """Run one of Slurm's commands against this cluster and return what it printed."""
        result = subprocess.run(
            command,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return result.stdout if result.returncode == 0 else ""

    def _write_files(self) -> None:
        self.folder.mkdir(mode=0o755, parents=True)
        (self.folder / "state").mkdir()
        for node in NODES:
            (self.folder / f"spool.{node}").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.config.write_text(
            SLURM_CONF.format(
                host=socket.gethostname(),
                user=psutil.Process().username(),
                folder=self.folder,
                port=self.first_port,
                first=self.first_port + 1,
                last=self.first_port + len(NODES),
            )
        )
        (self.folder / "gres.conf").write_text(GRES_CONF)

    def _start_munge(self) -> None:
        files = {
            "--key-file": "munge.key",
            "--socket": "munge.socket",
            "--pid-file": "munged.pid",
            "--log-file": "munged.log",
            "--seed-file": "munged.seed",
        }
        options = [f"{option}={self.folder / name}" for option, name in files.items()]
        self._daemon("munged", "--force", *options)
        self._wait((self.folder / "munge.socket").exists, "munged made no socket")

    def _daemon(self, name: str, *arguments: str) -> None:
        program = find_program(name)
        assert program
        command = [program, *arguments]
        result = subprocess.run(
            command, env={**os.environ, **self.env}, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"{name} did not start: {result.stderr.strip()}; see {self.folder}")

    def _wait(self, condition: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{problem} after {START_SECONDS} s: {self.states()}; logs in {self.folder}"
                )
            time.sleep(0.2)

    def _kill(self, name: str) -> None:
        pid_file = self.folder / f"{name}.pid"
        if pid_file.is_file():
            with suppress(psutil.NoSuchProcess, ValueError):
                process = psutil.Process(int(pid_file.read_text()))
                if process.name() == name.split(".")[0]:  # else the number was given away again
                    _kill(process)
            pid_file.unlink(missing_ok=True)

    def _job_steps(self, node: str) -> list[psutil.Process]:
        """What Slurm runs on a node: each step holds its node's log open."""
        log = str(self.folder / f"slurmd.{node}.log")
        steps = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "slurmstepd"]
        return [p for p in steps if log in _open_files(p)]


def _open_files(process: psutil.Process) -> list[str]:
    try:
        return [file.path for file in process.open_files()]
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)


def main() -> None:
    """Start, stop or change the cluster from a shell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = ("up", "down", "status", "node-down", "node-up")
    parser.add_argument("action", choices=actions)
    parser.add_argument("node", nargs="?", choices=NODES)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    arguments = parser.parse_args()
    cluster = Cluster(arguments.folder)
    if arguments.action.startswith("node") and arguments.node is None:
        parser.error(f"{arguments.action} needs a node: {', '.join(NODES)}")
    try:
        run_action(cluster, arguments)
    except RuntimeError as error:
        sys.exit(str(error))
    print(" ".join(f"{name}={state}" for name, state in cluster.states().items()) or "no cluster")


def run_action(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    if arguments.action == "up":
        cluster.start()
        print(f"export SLURM_CONF={cluster.config}")
    elif arguments.action == "down":
        cluster.stop()
    elif arguments.action == "node-down":
        cluster.node_down(arguments.node)
    elif arguments.action == "node-up":
        cluster.node_up(arguments.node)


if __name__ == "__main__":
    main()
