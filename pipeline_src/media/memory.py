"""Keep the ffmpeg processes of one stage within a memory budget, whatever clips they decode."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# With two workers and Python itself 1.3 GB in all.
BYTES_PER_WORKER = 600_000_000


class MemoryBudget:
    """Bytes that threads take and give back; more than there is means: alone."""

    def __init__(self, num_workers: int) -> None:
        self._total_bytes = num_workers * BYTES_PER_WORKER
        self._used_bytes = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, num_bytes: int) -> Iterator[None]:
        """Wait until ``num_bytes`` are free, and hold them; no thread may hold twice."""
        wanted = min(num_bytes, self._total_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._used_bytes + wanted <= self._total_bytes)
            self._used_bytes += wanted
        try:
            yield
        finally:
            with self._changed:
                self._used_bytes -= wanted
                self._changed.notify_all()
