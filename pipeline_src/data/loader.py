"""Batches of tensors for training (endless, exact) and for evaluation (each clip once)."""

import signal
from collections.abc import Iterator, Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline_src.data.dataset import IMAGE_MEAN, IMAGE_STD, ClipDataset
from pipeline_src.data.sampler import Draw, EpochSampler, rank_slice

Batch = dict[str, Tensor]


def training_batches(
    dataset: ClipDataset,
    sampler: EpochSampler,
    *,
    first_step: int,
    last_step: int,
    num_workers: int,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """This rank's batches of steps [first_step, last_step), in order, whatever ``num_workers``."""
    return iter(
        DataLoader(
            dataset,
            batch_sampler=_StepRange(sampler, first_step, last_step),  # type: ignore[arg-type]
            num_workers=num_workers,
            pin_memory=pin_memory,
            prefetch_factor=4 if num_workers else None,
            worker_init_fn=_leave_signals_to_the_rank,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
        )
    )


def _as_it_is(batch: Batch) -> Batch:
    """The data set makes whole batches."""
    return batch


def _leave_signals_to_the_rank(_worker: int) -> None:
    """Slurm signals every process of a job; a worker that ended would take its rank with it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class _StepRange:
    """Batches of a range of steps, made when asked for: a run has millions of draws."""

    def __init__(self, sampler: EpochSampler, first_step: int, last_step: int) -> None:
        self._sampler, self._steps = sampler, range(first_step, last_step)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[Draw]]:
        return map(self._sampler.batch, self._steps)


def evaluation_batches(
    dataset: ClipDataset, *, batch_size: int, num_workers: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """This rank's clips in order, each exactly once; the last batch may be smaller."""
    draws = [Draw(i, i) for i in rank_slice(len(dataset), rank=rank, world_size=world_size)]
    batches = [draws[i : i + batch_size] for i in range(0, len(draws), batch_size)]
    return iter(
        DataLoader(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=min(num_workers, len(batches)),
            collate_fn=_as_it_is,  # type: ignore[arg-type]
        )
    )


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> Batch:
    """Move a batch and turn ``frames``, if any, from uint8 into ImageNet-normalised float32."""
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    if "frames" in moved:
        mean, std = _image_moments(device)
        frames = moved["frames"].to(torch.float32, memory_format=torch.contiguous_format)
        moved["frames"] = (frames - mean) / std
    return moved


@lru_cache(maxsize=8)
def _image_moments(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3, 1, 1) of uint8 frames, moved to the device once."""
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (IMAGE_MEAN, IMAGE_STD))
    return mean.to(device), std.to(device)
