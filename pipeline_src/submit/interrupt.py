"""Ctrl-C, a closed terminal and a shutdown as one exception in the waiter."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

import psutil

WAITERS = ("pretrain_model.py", "finetune_model.py")  # ends of the names of their scripts
Handler = Callable[[int, FrameType | None], object]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RETRY_SECONDS = 0.05


class InterruptedBySignal(BaseException):
    """The waiter was asked to end; its job may or may not be."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.is_deliberate = number == signal.SIGINT


@contextmanager
def interruptible() -> Iterator[None]:
    """Have a signal that would end the process raise an exception.

    The first signal counts: what it starts is not interrupted by a second Ctrl-C, or by the same
    one that both the terminal and Snakemake pass on.

    Raises:
        InterruptedBySignal: wherever the process is.
    """
    heard: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if not heard:
            heard.append(number)
            raise InterruptedBySignal(number)

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pass_on_interrupts() -> None:
    """Let SIGINT and SIGTERM of this process alone reach the waiters of trainings it started.

    A terminal sends Ctrl-C to a whole group; a supervisor asks Snakemake alone to end, which would
    then wait for the end of the training.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, partial(_pass_on, handler))


def _pass_on(handler: Handler, number: int, frame: FrameType | None) -> None:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(word.endswith(WAITERS) for word in process.cmdline()):
                process.send_signal(number)
    if _is_logging(frame):  # Snakemake's handler drops an interrupt that is raised there
        threading.Timer(RETRY_SECONDS, os.kill, (os.getpid(), number)).start()
        return
    handler(number, frame)


def _is_logging(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "emit":
            return True
        frame = frame.f_back
    return False
