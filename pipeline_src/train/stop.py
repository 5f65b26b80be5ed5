"""Asking a training to stop: signals become a flag that is read between steps."""

import logging
import signal
from types import FrameType, TracebackType

logger = logging.getLogger(__name__)

# Slurm sends the first before a time limit or a pre-emption, the second when a job is cancelled,
# pre-empted or requeued from outside.
# Ctrl-C and a closed terminal come where a rank was started by hand; jobs of the workflow ignore
# both.
TIME_IS_UP = signal.SIGUSR2
SIGNALS = (TIME_IS_UP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequestedError(Exception):
    """A signal asked for the end; the state has been saved and the run can be resumed."""


class StopFlag:
    """Catches the stop signals for as long as it is open; handlers must not save anything.

    The handler runs between two bytecodes of the main thread, while other ranks continue: only the
    loop knows when all ranks can stop together.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C: at once, from the last saved state
        # A time limit that is near does not turn a cancellation into something to be requeued.
        if self.received != signal.SIGTERM:
            self.received = signal.Signals(number)
        logger.warning("%s: stopping after this step", signal.Signals(number).name)

    def __enter__(self) -> "StopFlag":
        heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._receive) for number in heard}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
