"""Batches in memory that loader processes share with their parent, used again and again.

A batch of frames is tens of megabytes. Sent the usual way it gets new shared memory each time, and
the kernel's clearing and mapping of those pages costs a good part of what decoding does.
Here each loader process has a few places for batches that the parent has made before the processes
were forked; a place is free again when the parent asks for a later batch, and the first free one is
taken, so that a loader which cannot keep ahead touches few pages. The memory is anonymous:
/dev/shm, which containers keep small, is not used.
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

from pipeline_src.loader.dataset import ClipDataset, as_tensors
from pipeline_src.loader.sampler import Draw

CAN_SHARE = sys.platform == "linux"  # where processes are forked and inherit memory
ALIGNMENT_BYTES = 4096
BORROWED = ("frames", "logmel")


class BorrowedBatch(NamedTuple):
    """Where a batch lies; it is all that a loader process sends."""

    pool: int
    worker: int
    place: int
    size: int

    def tensors(self) -> dict[str, Tensor]:
        """Copy the batch, but for ``BORROWED``, which stay until the next one is asked for.

        They are most of the bytes, and ``to_device`` makes a copy of them in any case. The
        shapes are those of ``ClipDataset.__getitems__``.
        """
        batch = _POOLS[self.pool].batch(self)
        return {name: v if name in BORROWED else v.clone() for name, v in batch.items()}

    def pin_memory(self) -> dict[str, Tensor]:
        """Copy the batch, in the shapes of ``tensors``, into page-locked memory.

        The loader's own thread calls this.
        """
        copied = {k: v.pin_memory() for k, v in _POOLS[self.pool].batch(self).items()}
        self.release()
        return copied

    def release(self) -> None:
        """Mark the batch's memory as free to be written to."""
        _POOLS[self.pool].is_taken[self.worker, self.place] = False


class SharedBatchPool(Dataset[BorrowedBatch]):
    """A data set whose batches are decoded into shared places.

    A loader with ``in_order`` hands tasks to its processes in turn, each at most ``prefetch`` ahead
    of what the parent has taken, so of ``prefetch`` + 1 places one is free when a process begins.

    Args:
        batch_size: largest number of clips of a batch.
        prefetch: the loader's ``prefetch_factor``.
    """

    def __init__(
        self, dataset: ClipDataset, *, batch_size: int, num_workers: int, prefetch: int
    ) -> None:
        self._dataset = dataset
        self._places = [
            [_allocate(dataset, batch_size) for _ in range(prefetch + 1)]
            for _ in range(num_workers)
        ]
        self.is_taken = _shared((num_workers, prefetch + 1), np.bool_)
        _POOLS[id(self)] = self

    def __getitems__(self, draws: Sequence[Draw]) -> BorrowedBatch:
        worker = get_worker_info()
        assert worker  # used by loader processes alone
        is_taken = self.is_taken[worker.id]
        place = is_taken.tolist().index(False)
        is_taken[place] = True
        found = BorrowedBatch(id(self), worker.id, place, len(draws))
        self._dataset.fill(self._arrays(found), draws)
        return found

    def batch(self, found: BorrowedBatch) -> dict[str, Tensor]:
        """Return the batch where it lies, in the shapes of ``ClipDataset.__getitems__``."""
        return as_tensors(self._arrays(found))

    def _arrays(self, found: BorrowedBatch) -> dict[str, NDArray]:
        """Return the arrays where a batch lies: (B, ...), items as in ``ClipDataset.layout``."""
        place = self._places[found.worker][found.place]
        return {name: array[: found.size] for name, array in place.items()}


_POOLS: "weakref.WeakValueDictionary[int, SharedBatchPool]" = weakref.WeakValueDictionary()


def _allocate(dataset: ClipDataset, batch_size: int) -> dict[str, NDArray]:
    """Allocate arrays for a batch: (B, ...), items as in ``ClipDataset.layout``."""
    layout = dataset.layout().items()
    return {name: _shared((batch_size, *shape), kind) for name, (shape, kind) in layout}


def _shared(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray:
    """Allocate zeros of ``shape`` that forked processes share; a page is taken when written to."""
    num_bytes = math.prod(shape) * np.dtype(kind).itemsize
    memory = mmap.mmap(-1, max(num_bytes, ALIGNMENT_BYTES))
    return np.frombuffer(memory, kind, math.prod(shape)).reshape(shape)
