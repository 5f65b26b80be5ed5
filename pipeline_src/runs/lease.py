"""One training at a time in a run's folder: a lock that dies with its holder and names it.

The lock is flock's on ``lease.json``: held by the kernel, so that no kill leaves it behind. Network
file systems may keep it within one machine, or have none. So the holder also counts up in the
file, and whoever finds another machine's name there watches the count for a while: it stands still
when the holder is dead. No clock is compared with another.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline_src.errors import RunInUseError

LEASE_FILE = "lease.json"
RECORD_BYTES = 512  # always as long, so that a reader never meets the end of an earlier record
LONGEST_SIGN = 80
BEAT_SECONDS = 2.0
SILENCE_SECONDS = 20.0  # of a holder on another machine, after which it is taken for dead
GRACE_SECONDS = 10.0  # a holder that is ending gets this long


@dataclass(frozen=True)
class Holder:
    """Who trains, and how far it is.

    Args:
        job: as its scheduler knows it; empty = started by hand.
        beats: counted up as long as the process runs.
        signs: counted up with every sign of life of the training; ``last`` is the newest.
    """

    host: str
    process: int
    job: str = ""
    beats: int = 0
    signs: int = 0
    last: str = ""

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} ({self.job or 'started by hand'})"

    @property
    def how_to_end(self) -> str:
        """The command that makes it save and end."""
        kind, _, number = self.job.partition(" job ")
        return f"scancel {number}" if kind == "slurm" else f"kill {self.process}"


def this_process() -> Holder:
    """Describe this process as the holder of a lease."""
    slurm, local = (os.environ.get(k) for k in ("SLURM_JOB_ID", "SUBMITIT_LOCAL_JOB_ID"))
    job = f"slurm job {slurm}" if slurm else f"local job {local}" if local else ""
    return Holder(socket.gethostname(), os.getpid(), job)


def read_holder(run_dir: Path) -> Holder | None:
    """Read who trains in the folder, or did until it was killed; None where nobody says."""
    try:
        return Holder(**json.loads((run_dir / LEASE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, released, or just being written
        return None


def refuse_if_trained(run_dir: Path) -> None:
    """Raise RunInUseError while a process trains in the folder, as far as this machine knows."""
    if (run_dir / LEASE_FILE).exists():
        descriptor = os.open(run_dir / LEASE_FILE, os.O_RDWR)
        try:
            _lock(descriptor, run_dir)
        finally:
            os.close(descriptor)


class Lease:
    """The right to train in a folder, until it is released or this process is gone.

    Raises:
        RunInUseError: another process trains there; names it and how to end it.
    """

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self._file = os.open(run_dir / LEASE_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        self._writes = threading.Lock()
        self._is_open = True
        try:
            is_locked = _lock(self._file, run_dir)
            _refuse_living(run_dir, trusts_lock=is_locked)
        except BaseException:
            os.close(self._file)
            raise
        self._holder = this_process()
        self.beat(0, "start")

    def beat(self, signs: int, last: str) -> None:
        """Say that this process runs, and what the training did last."""
        with self._writes:
            if self._is_open:
                beats, last = self._holder.beats + 1, last[:LONGEST_SIGN]
                self._holder = replace(self._holder, beats=beats, signs=signs, last=last)
                self._write(json.dumps(asdict(self._holder)))

    def release(self) -> None:
        """Let others train here; forked processes that still live do not keep it."""
        with self._writes:
            self._is_open = False
            self._write("")
            with suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a full disk must not end what the lock protects
            os.pwrite(self._file, text.ljust(RECORD_BYTES).encode(), 0)
            os.fsync(self._file)


@contextmanager
def held(run_dir: Path) -> Iterator[Lease]:
    """Hold a lease for the time of this context."""
    lease = Lease(run_dir)
    try:
        yield lease
    finally:
        lease.release()


def _lock(descriptor: int, run_dir: Path) -> bool:
    """Lock the file; False where its file system has no locks.

    Raises:
        RunInUseError: another process still holds it after ``GRACE_SECONDS``.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _in_use(run_dir, read_holder(run_dir)) from None
            time.sleep(0.2)
        except OSError:
            return False
        else:
            return True


def _refuse_living(run_dir: Path, *, trusts_lock: bool) -> None:
    """Watch a holder of whom this machine's lock may know nothing.

    Raises:
        RunInUseError: it has given a sign of life.
    """
    first = read_holder(run_dir)
    if first is None or (trusts_lock and first.host == socket.gethostname()):
        return
    deadline = time.monotonic() + SILENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(BEAT_SECONDS / 2)
        now = read_holder(run_dir)
        if now and (now.process, now.beats) != (first.process, first.beats):
            raise _in_use(run_dir, now)


def _in_use(run_dir: Path, holder: Holder | None) -> RunInUseError:
    who = str(holder) if holder else "another process"
    how = f" (`{holder.how_to_end}` there lets it save and end)" if holder else ""
    return RunInUseError(
        f"{run_dir} is being trained by {who}. Wait for it or end it{how}, then run the same "
        "command again"
    )
