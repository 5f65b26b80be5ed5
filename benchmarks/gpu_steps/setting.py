"""What every step gets: the device, the sizes, earlier figures, and one network at a time."""

import gc
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from benchmarks.gpu_steps.record import Record

Value = TypeVar("Value")
BATCH_SIZE = 96  # of the published comparisons
# Overrides of the networks of a rehearsal, which runs every line and measures nothing.
SMALL: dict[str, Any] = {
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "decoder_embed_dim": 16,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
}


@dataclass
class Setting:
    """The command's device and sizes.

    Args:
        quick: tiny networks and one repeat, to rehearse the command.
        flops: name of a run -> operations per clip, counted in a process of its own.
    """

    device: torch.device
    quick: bool
    record: Record
    flops: dict[str, "Future[float]"] = field(default_factory=dict)
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether there is something to measure."""
        return self.device.type == "cuda"

    @property
    def batch_size(self) -> int:
        """Clips per step."""
        return 5 if self.quick else BATCH_SIZE

    @property
    def repeats(self) -> int:
        """Timed steps."""
        return 1 if self.quick else 10

    def keep(self, name: str, make: Callable[[], Value]) -> Value:
        """Return what ``make`` made under a name, and forget all that another name has."""
        if name not in self._kept:
            self.free()
            self._kept[name] = make()
        return self._kept[name]

    def free(self) -> None:
        """Give back the memory of what was kept, and forget what was compiled for it."""
        self._kept.clear()
        torch.compiler.reset()  # code for the shapes of one network is in the way of the next
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Return when the device has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeats: int, *, warm_up: int = 2) -> float:
        """Mean wall seconds of ``work``, one after the other without waiting in between."""
        for _ in range(warm_up):
            work()
        self.wait()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        self.wait()
        return (time.perf_counter() - started) / repeats

    def peak_bytes(self) -> int:
        """Most memory that tensors took since ``reset_peak``; 0 on a CPU."""
        return torch.cuda.max_memory_allocated() if self.on_gpu else 0

    def reset_peak(self) -> None:
        """Begin to look for the most memory."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def is_alive(self) -> bool:
        """Whether the device still answers: after some faults this process has lost it."""
        with suppress(RuntimeError):
            return bool(torch.ones(1, device=self.device).add(1).item() == 2)
        return False
