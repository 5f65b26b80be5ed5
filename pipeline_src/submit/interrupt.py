"""Ctrl-C, a closed terminal and a shutdown as one exception in the waiter."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
