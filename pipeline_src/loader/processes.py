"""Loader processes that end with their batches: after an error, a signal, a kill, and at exit.

torch asks its loader processes politely to end and joins them without a time limit when Python
exits. Ours leave SIGTERM to their rank, so that way would never end; besides, one that was killed
may hold a lock that asking needs. They write nothing that could be lost: here they are killed.
"""

import atexit
import multiprocessing.process
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self, TypeVar

from torch.utils.data import DataLoader
from torch.utils.data._utils.signal_handling import _remove_worker_pids
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from pipeline_src.errors import LoaderError
from pipeline_src.shards.reader import raise_open_files
from pipeline_src.system.parent import end_with_parent

END_SECONDS = 5.0
Item = TypeVar("Item")


class LoadedItems(Iterator[Item]):
    """What a loader gives, in order, with the processes that make it.

    A context that ends them; without one they end with the last item, with this object, or when
    Python exits.

    Raises:
        LoaderError: one of the processes died; anywhere within the context.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._owner = os.getpid()
        with _main_left_alone():
            self._iterator: Iterator[Any] = iter(loader)
        _OPEN.add(self)

    def next_item(self) -> Any:
        """Return what a process made, as it was sent."""
        try:
            return next(self._iterator)
        except StopIteration:
            self.close()
            raise
        except RuntimeError as error:
            self._tell_of_dead(error)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._tell_of_dead(error)
        finally:
            self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; there are no more items."""
        iterator = getattr(self, "_iterator", None)
        self._iterator = iter(())
        # A forked process has copies of this object, but the processes are not its own.
        is_own = os.getpid() == self._owner
        if is_own and isinstance(iterator, _MultiProcessingDataLoaderIter):
            _end(iterator)

    def _tell_of_dead(self, error: BaseException | None) -> None:
        """Say in words what torch says wherever its rank just is when a process has died.

        Raises:
            LoaderError: a process has died, of which ``error`` tells.
        """
        dead = [worker for worker in self._processes() if worker.exitcode]
        if dead and isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            raise LoaderError(_describe(dead[0])) from error

    def _processes(self) -> list[BaseProcess]:
        return getattr(self._iterator, "_workers", [])


_OPEN: "weakref.WeakSet[LoadedItems[Any]]" = weakref.WeakSet()


@atexit.register  # after multiprocessing's own, which joins them: the last one comes first
def _end_all() -> None:
    for items in list(_OPEN):
        items.close()


def _end(iterator: _MultiProcessingDataLoaderIter) -> None:
    iterator._shutdown = True  # for torch there is nothing left to do
    if iterator._worker_pids_set:
        _remove_worker_pids(id(iterator))  # else the first that ends would be an error
        iterator._worker_pids_set = False
    for worker in iterator._workers:
        worker.kill()
    for worker in iterator._workers:
        worker.join(END_SECONDS)
        if worker.is_alive():  # in a file system that hangs: it dies when that answers
            multiprocessing.process._children.discard(worker)  # type: ignore[attr-defined]
    if pinning := getattr(iterator, "_pin_memory_thread", None):
        iterator._pin_memory_thread_done_event.set()
        iterator._worker_result_queue.put((None, None))  # wakes it up
        pinning.join(END_SECONDS)
    for tasks in (*iterator._index_queues, iterator._worker_result_queue):
        tasks.cancel_join_thread()
        tasks.close()


def _describe(worker: BaseProcess) -> str:
    code = worker.exitcode or 0
    how = f"ended with exit code {code}"
    if code < 0:
        with suppress(ValueError):
            how = f"was killed by {signal.Signals(-code).name}"
    why = " (most often because memory ran out)" if code == -signal.SIGKILL else ""
    return (
        f"loader process {worker.pid} {how}{why}. Lower num_workers or prefetch_batches, or give "
        "the job more memory (mem_mb), then run the same command again to continue"
    )


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Keep spawned processes from importing the script that runs: they need this package alone.

    A Snakemake script would do all of its work again in each of them.
    """
    main = sys.modules["__main__"]
    missing = object()
    hidden = {name: getattr(main, name, missing) for name in ("__spec__", "__file__")}
    main.__spec__ = None
    if hidden["__file__"] is not missing:
        del main.__file__
    try:
        yield
    finally:
        for name, value in hidden.items():
            if value is not missing:
                setattr(main, name, value)


class Initialise:
    """Prepares a loader process: it ends with its rank, hears no signals, keeps shards open."""

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._is_main = threading.current_thread() is threading.main_thread()

    def __call__(self, _worker: int) -> None:
        # Slurm signals every process of a job; one that ended would take its rank with it.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        end_with_parent(self._parent, asks_kernel=self._is_main)
        raise_open_files()
