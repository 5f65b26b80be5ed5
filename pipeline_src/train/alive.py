"""Watches that a training makes progress, and logs a warning when it does not.

Signs of life are: the parts of a start (shards opened, network built, state restored), a step, a
batch of a validation, and a saved state. What lies between two of them (reading clips, compiling
at the first step, gathering from other ranks) has to end within the stated time.
"""

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pipeline_src.runs.lease import BEAT_SECONDS

logger = logging.getLogger(__name__)


class Watchdog:
    """A thread that looks every few seconds, for as long as this context is open.

    Args:
        stall_minutes: without a sign of life, after which that is said once; 0 = never.
        beat: told at every look how many signs there were, and the last one.
    """

    def __init__(self, stall_minutes: float, beat: Callable[[int, str], None]) -> None:
        self._stall_seconds = stall_minutes * 60
        self._beat = beat
        self._signs, self._last, self._at = 0, "start", time.monotonic()
        self._stalled = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def heartbeat(self, what: str) -> None:
        """Note a sign of life."""
        self._signs, self._last, self._at = self._signs + 1, what, time.monotonic()
        if self._stalled:
            self._stalled = False
            logger.warning("progress again: %s", what)

    def _watch(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._beat(self._signs, self._last)
            silent = time.monotonic() - self._at
            if self._stall_seconds and silent > self._stall_seconds and not self._stalled:
                self._stalled = True
                self._tell(silent)

    def _tell(self, seconds: float) -> None:
        logger.warning(
            "no sign of life for %.1f minutes (submit.stall_minutes), the last was: %s; "
            "where every thread is:",
            seconds / 60,
            self._last,
        )
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr, all_threads=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
