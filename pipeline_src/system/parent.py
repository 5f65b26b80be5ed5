"""A process that ends with the one that started it, however that one ended."""

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1  # of Linux' prctl(2)
WATCH_SECONDS = 1.0


def end_with_parent(
    parent: int, number: signal.Signals = signal.SIGKILL, *, asks_kernel: bool = True
) -> None:
    """Send this process ``number`` as soon as ``parent`` is gone, by kill -9 too.

    Linux does so by itself; elsewhere a thread looks every second.

    Args:
        asks_kernel: False where a thread that ends before its process started this one: Linux
            takes that thread's end for the parent's.
    """
    if not (asks_kernel and _ask_kernel(number)):
        threading.Thread(target=_watch, args=(parent, number), daemon=True).start()
    if os.getppid() != parent:  # it was gone before it could be watched
        os.kill(os.getpid(), number)


def _ask_kernel(number: signal.Signals) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) == 0
    except (OSError, AttributeError):  # another C library
        return False


def _watch(parent: int, number: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), number)
