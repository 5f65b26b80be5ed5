"""Batches in memory that loader processes share with their parent, used again and again.

A batch of frames is tens of megabytes. Sent the usual way it gets new shared memory each time, and
the kernel's clearing and mapping of those pages costs a good part of what decoding does.
Here each loader process has a few places for batches that the parent has made before the processes
were forked; a place is written to again after the parent has asked for a later batch. The memory
is anonymous: /dev/shm, which containers keep small, is not used.
"""

import math
import mmap
import sys
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from pipeline_src.data.dataset import ClipDataset, as_tensors
from pipeline_src.data.sampler import Draw

CAN_SHARE = sys.platform == "linux"  # where processes are forked and inherit memory
ALIGNMENT_BYTES = 4096


class RingBatch(NamedTuple):
    """Where a batch lies; it is all that a loader process sends."""

    ring: int
    worker: int
    place: int
    size: int

    def tensors(self) -> dict[str, Tensor]:
        """A copy of the batch, but for its frames, which stay until the next one is asked for.

        They are most of the bytes, and ``to_device`` makes a copy of them in any case.
        """
        batch = _RINGS[self.ring].batch(self)
        return {name: v if name == "frames" else v.clone() for name, v in batch.items()}

    def pin_memory(self) -> dict[str, Tensor]:
        """A copy in page-locked memory; the loader's own thread calls this."""
        return {k: v.pin_memory() for k, v in _RINGS[self.ring].batch(self).items()}


class BatchRing(Dataset[RingBatch]):
    """A data set whose batches are decoded into shared places.

    A loader with ``in_order`` hands tasks to its processes in turn, each at most ``prefetch`` ahead
    of what the parent has taken, so ``prefetch`` + 1 places per process are never all in use.

    Args:
        batch_size: largest number of clips of a batch.
        prefetch: the loader's ``prefetch_factor``.
    """

    def __init__(
        self, dataset: ClipDataset, *, batch_size: int, num_workers: int, prefetch: int
    ) -> None:
        self._dataset = dataset
        self._num_done = 0  # by this process
        self._places = [
            [_allocate(dataset, batch_size) for _ in range(prefetch + 1)]
            for _ in range(num_workers)
        ]
        _RINGS[id(self)] = self

    def __getitems__(self, draws: Sequence[Draw]) -> RingBatch:
        worker = get_worker_info()
        assert worker  # used by loader processes alone
        place = self._num_done % len(self._places[worker.id])
        self._num_done += 1
        found = RingBatch(id(self), worker.id, place, len(draws))
        self._dataset.fill(self._arrays(found), draws)
        return found

    def batch(self, found: RingBatch) -> dict[str, Tensor]:
        """The batch where it lies."""
        return as_tensors(self._arrays(found))

    def _arrays(self, found: RingBatch) -> dict[str, NDArray]:
        place = self._places[found.worker][found.place]
        return {name: array[: found.size] for name, array in place.items()}


_RINGS: "weakref.WeakValueDictionary[int, BatchRing]" = weakref.WeakValueDictionary()


def _allocate(dataset: ClipDataset, batch_size: int) -> dict[str, NDArray]:
    """Arrays for a batch; pages are taken when they are first written to."""
    arrays: dict[str, NDArray] = {}
    for name, (shape, kind) in dataset.layout().items():
        whole = (batch_size, *shape)
        num_bytes = math.prod(whole) * np.dtype(kind).itemsize
        memory = mmap.mmap(-1, max(num_bytes, ALIGNMENT_BYTES))
        arrays[name] = np.frombuffer(memory, kind, math.prod(whole)).reshape(whole)
    return arrays
