"""Refuse a step whose loss or gradient is not finite, without making the host wait for a GPU.

The verdict stays on the device: the fused optimiser skips the step where ``found_inf`` is 1. The
host reads it when the next step is queued, by when it has long been computed, and before anything
is logged or saved; the run then ends with weights that no bad step has touched.
"""

from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer


class StepGuard:
    """Watches every optimiser step of a run.

    Args:
        reads_at_once: look at each verdict before its step; for parameters that are split over
            ranks, whose optimiser takes no ``found_inf``.
    """

    def __init__(self, *, reads_at_once: bool = False) -> None:
        self._reads_at_once = reads_at_once
        self._pending: tuple[Callable[[], bool], Callable[[], NoReturn]] | None = None

    def watch(self, optimizer: Optimizer, value: Tensor, refuse: Callable[[], NoReturn]) -> None:
        """Let the next ``optimizer.step()`` happen only if ``value`` (0-d) is finite.

        Args:
            refuse: raises the error that names step and clips; called at the latest by the next
                ``watch`` or ``settle``.
        """
        self.settle()
        is_finite = torch.isfinite(value)
        if not self._reads_at_once:
            optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
        self._pending = (_read_later(is_finite), refuse)
        if self._reads_at_once:
            self.settle()

    def settle(self) -> None:
        """Raise the pending refusal, if there is one."""
        if self._pending:
            is_finite, refuse = self._pending
            self._pending = None
            if not is_finite():
                refuse()


def _read_later(flag: Tensor) -> Callable[[], bool]:
    """Start copying a flag to the host; the result waits for that copy alone."""
    if not flag.is_cuda:
        return lambda: bool(flag)
    copy = torch.empty((), dtype=torch.bool, pin_memory=True)
    copy.copy_(flag, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def read() -> bool:
        copied.synchronize()
        return bool(copy)

    return read
