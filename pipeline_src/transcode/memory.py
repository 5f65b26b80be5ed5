"""Keep the ffmpeg processes of one stage within a memory budget.

Memory is counted, not limited: a limit on the process would kill good clips by chance.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# With two workers and Python itself 1.3 GB in all.
BYTES_PER_WORKER = 600_000_000
# One worker decodes what two can.
MIN_WORKERS = 2


class MemoryBudget:
    """Bytes that threads take and give back.

    Args:
        total_bytes: what a clip may take at most.
    """

    def __init__(self, num_workers: int) -> None:
        self.total_bytes = max(MIN_WORKERS, num_workers) * BYTES_PER_WORKER
        self._used_bytes = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, num_bytes: int) -> Iterator[None]:
        """Wait until ``num_bytes`` are free, and hold them; no thread may hold twice.

        Raises:
            ValueError: there are not so many in all.
        """
        if num_bytes > self.total_bytes:
            raise ValueError(f"{num_bytes} bytes; there are {self.total_bytes} in all")
        with self._changed:
            self._changed.wait_for(lambda: self._used_bytes + num_bytes <= self.total_bytes)
            self._used_bytes += num_bytes
        try:
            yield
        finally:
            with self._changed:
                self._used_bytes -= num_bytes
                self._changed.notify_all()
