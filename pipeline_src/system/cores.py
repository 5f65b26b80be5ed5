"""The CPU cores of this process: how many there are, and which thread runs on which.

A step is thousands of short parallel regions, between which OpenMP's threads spin for each other.
Where another process takes one of two cores, the scheduler moves three runnable threads about, and
only a third of the time both of ours run: less than half of one thread's speed. Threads that keep
to a core each have both half of the time (``benchmarks/threads.py``).
"""

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

OPENMP_PLACES = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
MARK = "PIPELINE_KEPT_CORES"  # those that this process may use before OpenMP binds it


def num_cores() -> int:
    """Count cores that this process may use; where nobody can say (macOS), all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_threads_to_cores(num_threads: int, environment: MutableMapping[str, str]) -> None:
    """Have OpenMP, which is not loaded yet, bind each of its threads to a core of its own.

    Only where they take every core of this process: of a larger machine they would all take the
    first ones. Where the user has bound them, or the system cannot, nothing is changed.
    """
    is_bound = any(name in environment for name in OPENMP_PLACES)
    if is_bound or not hasattr(os, "sched_getaffinity") or num_threads < 2:
        return
    allowed = os.sched_getaffinity(0)
    if num_threads == len(allowed):
        environment["OMP_PROC_BIND"] = "true"
        environment[MARK] = ",".join(map(str, sorted(allowed)))


def free_main_thread() -> None:
    """Undo what OpenMP did to this thread when it was loaded.

    What is counted, forked and started now has all cores.
    """
    if allowed := _kept_cores():
        os.sched_setaffinity(0, allowed)


def bind_main_thread() -> None:
    """Keep this thread to its core, the first, from now on."""
    if allowed := _kept_cores():
        os.sched_setaffinity(0, {min(allowed)})


@contextmanager
def on_all_cores() -> Iterator[None]:
    """Give what is counted, forked and started in here all cores, wherever this thread runs."""
    if not (allowed := _kept_cores()):
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def _kept_cores() -> set[int]:
    return {int(core) for core in os.environ.get(MARK, "").split(",") if core}
