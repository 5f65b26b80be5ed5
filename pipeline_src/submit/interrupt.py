"""Ctrl-C, a closed terminal and a shutdown as one exception in the waiter."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

WAITERS = ("pretrain_model.py", "finetune_model.py")  # ends of the names of their scripts
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedBySignal(BaseException):
    """The waiter was asked to end; its job may or may not be."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.is_deliberate = number == signal.SIGINT


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise InterruptedBySignal where a signal would end the process.

    The first signal counts: what it starts is not interrupted by a second Ctrl-C, or by the same
    one that both the terminal and Snakemake pass on.
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
    """Let a SIGINT of this process alone reach the waiters of trainings that it started.

    A terminal sends Ctrl-C to a whole group; a supervisor to Snakemake alone, which would then wait
    for the end of the training.
    """

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if any(word.endswith(WAITERS) for word in process.cmdline()):
                    process.send_signal(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, pass_on)
