"""Seconds of a function: wall, and CPU of this process and all that it started."""

import os
import time
from collections.abc import Callable
from typing import NamedTuple


class Cost(NamedTuple):
    """CPU seconds count every process that has ended by then."""

    seconds: float
    cpu_seconds: float


def timed(function: Callable[[], object]) -> Cost:
    """Run ``function`` once."""
    started, cpu_started = time.perf_counter(), sum(os.times()[:4])
    function()
    return Cost(time.perf_counter() - started, sum(os.times()[:4]) - cpu_started)
