"""Batches of tensors for training (endless, exact) and for evaluation (each clip once).

``frames`` and ``logmel`` of a batch are as stored and hold until the next one is asked for, see
``shared_batches.py``; ``to_device`` normalises them and makes them the caller's own.
"""

import math
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline_src.errors import PipelineError
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import IMAGE_MEAN, IMAGE_STD, ClipDataset
from pipeline_src.loader.processes import Initialise, LoadedItems
from pipeline_src.loader.sampler import Draw, EpochSampler, rank_slice
from pipeline_src.loader.shared_batches import CAN_SHARE, BorrowedBatch, SharedBatchPool
from pipeline_src.system.cores import on_all_cores

Batch = dict[str, Tensor]
EVALUATION_PREFETCH = 2


def training_batches(
    dataset: ClipDataset,
    sampler: EpochSampler,
    *,
    first_step: int,
    last_step: int,
    num_workers: int,
    prefetch: int = 4,
    pin_memory: bool = False,
) -> "Batches":
    """Load this rank's batches of steps [first_step, last_step), in order, on any ``num_workers``.

    Args:
        prefetch: batches that each loader process is ahead.
    """
    return _load(
        dataset,
        _StepRange(sampler, first_step, last_step),
        batch_size=sampler.largest_batch,
        num_workers=num_workers,
        prefetch=prefetch,
        pin_memory=pin_memory,
    )


def evaluation_batches(
    dataset: ClipDataset,
    *,
    batch_size: int,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
    pads: bool = False,
) -> "Batches":
    """Load this rank's clips in order, each exactly once; the last batch may be smaller.

    Args:
        pads: after its own clips a rank that has fewer than another gets the first one.
    """
    draws = [Draw(i, i) for i in rank_slice(len(dataset), rank=rank, world_size=world_size)]
    if pads:
        most = math.ceil(len(dataset) / world_size)
        draws += [Draw(0, 0)] * (most - len(draws))
    batches = [draws[i : i + batch_size] for i in range(0, len(draws), batch_size)]
    return _load(
        dataset,
        batches,
        batch_size=batch_size,
        num_workers=min(num_workers, len(batches)),
        prefetch=EVALUATION_PREFETCH,
    )


def _load(
    dataset: ClipDataset,
    batches: "_StepRange | Sequence[list[Draw]]",
    *,
    batch_size: int,
    num_workers: int,
    prefetch: int,
    pin_memory: bool = False,
) -> "Batches":
    is_shared = num_workers > 0 and CAN_SHARE and _forks()
    source = dataset
    if is_shared:
        source = SharedBatchPool(
            dataset, batch_size=batch_size, num_workers=num_workers, prefetch=prefetch
        )
    # The processes are forked here. Those of a validation begin in the midst of a training, whose
    # thread may be bound to one core.
    with on_all_cores():
        loader: DataLoader[Any] = DataLoader(
            _ErrorsAsValues(source),
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=num_workers,
            pin_memory=pin_memory,
            prefetch_factor=prefetch if num_workers else None,
            worker_init_fn=Initialise(),
            collate_fn=_as_it_is,
            multiprocessing_context="fork" if is_shared else None,
        )
        return Batches(loader)


def _forks() -> bool:
    return multiprocessing.get_start_method(allow_none=True) != "spawn"


class Batches(LoadedItems[Batch]):
    """Batches, and the processes that make them, which end with this context."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._borrowed: BorrowedBatch | None = None
        super().__init__(loader)

    def __next__(self) -> Batch:
        """Return a batch, in the shapes of ``ClipDataset.__getitems__``.

        Its frames and log-mels may be overwritten once the next one is asked for.

        Raises:
            PipelineError: that a loader process met, or that one has died.
        """
        if self._borrowed:
            self._borrowed.release()
            self._borrowed = None
        item: Batch | BorrowedBatch | PipelineError = self.next_item()
        if isinstance(item, PipelineError):
            raise item
        if isinstance(item, BorrowedBatch):
            self._borrowed = item
            return item.tensors()
        return item


class _ErrorsAsValues(Dataset[Any]):
    """A data set that gives what a user can act on as a value: torch adds a traceback to it."""

    def __init__(self, source: ClipDataset | SharedBatchPool) -> None:
        self._source = source

    def __getitems__(self, draws: Sequence[Draw]) -> Batch | BorrowedBatch | PipelineError:
        """Return a batch as ``ClipDataset.__getitems__`` shapes it, where it lies, or the error."""
        try:
            return self._source.__getitems__(draws)
        except PipelineError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    """Return a batch as it is: the data set makes whole ones."""
    return batch


class _StepRange:
    """Batches of a range of steps, made when asked for: a run has millions of draws."""

    def __init__(self, sampler: EpochSampler, first_step: int, last_step: int) -> None:
        self._sampler, self._steps = sampler, range(first_step, last_step)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[Draw]]:
        return map(self._sampler.batch, self._steps)


def to_device(batch: Mapping[str, Tensor], device: torch.device, clip_format: ClipFormat) -> Batch:
    """Move a batch, and copy its log-mels and ``frames``, if any, into normalised float32.

    Frames by ImageNet's moments, log-mels by those of ``clip_format``; the shapes stay.
    """
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    if "logmel" in moved:  # not of pictures alone, which no shard holds
        logmel = moved["logmel"].to(torch.float32, copy=True)
        moved["logmel"] = logmel.sub_(clip_format.logmel_mean).div_(clip_format.logmel_std)
    if "frames" in moved:
        mean, std = _image_moments(device)
        frames = moved["frames"].to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        moved["frames"] = frames.sub_(mean).div_(std)
    return moved


@lru_cache(maxsize=8)
def _image_moments(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (3, 1, 1) of uint8 frames, moved to the device once."""
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (IMAGE_MEAN, IMAGE_STD))
    return mean.to(device), std.to(device)
