"""Ranks of one training job: started by submitit, torchrun, or alone."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

RANK_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Rank 0 writes checkpoints and logs."""
        return self.rank == 0


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the process group that RANK, WORLD_SIZE and LOCAL_RANK describe; alone without them."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    device = _pick_device(int(os.environ.get("LOCAL_RANK", "0")))
    if world_size == 1:
        yield Ranks(0, 1, device)
        return
    # What hosts tell each other goes through gloo: it must not wait for a GPU's queue.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=RANK_TIMEOUT)
    try:
        yield Ranks(rank, world_size, device)
    finally:
        dist.destroy_process_group()


def _pick_device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def any_rank(flags: Sequence[bool], ranks: Ranks) -> list[bool]:
    """Return whether each flag is set on at least one rank; every rank must ask."""
    if ranks.world_size == 1:
        return list(flags)
    values = torch.tensor([float(flag) for flag in flags])
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


def mean_over_ranks(values: Mapping[str, Tensor], ranks: Ranks) -> dict[str, float]:
    """Return each value's mean over the ranks that have it; every rank must ask."""
    own = {name: float(value) for name, value in values.items()}
    if ranks.world_size == 1:
        return own
    gathered: list[dict[str, float]] = [{} for _ in range(ranks.world_size)]
    dist.all_gather_object(gathered, own)
    names = dict.fromkeys(name for one in gathered for name in one)
    found = {name: [one[name] for one in gathered if name in one] for name in names}
    return {name: sum(given) / len(given) for name, given in found.items()}


def from_main(value: int, ranks: Ranks) -> int:
    """Return the value that rank 0 gives; every rank must ask."""
    if ranks.world_size == 1:
        return value
    shared = torch.tensor(value, device=ranks.device)
    dist.broadcast(shared, src=0)
    return int(shared.item())


def text_from_main(text: str, ranks: Ranks) -> str:
    """Return the text that rank 0 gives; every rank must ask."""
    if ranks.world_size == 1:
        return text
    said = [text]
    dist.broadcast_object_list(said, src=0)
    return said[0]


def wait_for_all(ranks: Ranks) -> None:
    """Return when every rank has come here."""
    if ranks.world_size > 1:
        dist.barrier()
