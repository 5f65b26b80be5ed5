"""The mean of the weights at the ends of several epochs: CAV-MAE's published checkpoints.

The sum is part of every checkpoint, so it survives a kill as the weights do, and ranks that hold a
part of each tensor (FSDP2) sum their parts.
"""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor, nn

from pipeline_src.runs.checkpoint import Checkpoint, load_sums
from pipeline_src.runs.sharded import like


class WeightAverage:
    """Running fp32 sum of every tensor of a network's state dict.

    Args:
        steps: after which the weights are added; a step that ends several epochs stands several
            times. Empty: nothing is averaged.
    """

    def __init__(self, steps: Sequence[int] = ()) -> None:
        self.sums: dict[str, Tensor] = {}
        self._times = Counter(steps)

    def num_terms(self, step: int) -> int:
        """Count the terms of the sum after ``step`` steps."""
        return sum(times for end, times in self._times.items() if end <= step)

    def add(self, model: nn.Module, step: int) -> None:
        """Take the weights after ``step`` steps in, if an averaged epoch ends there."""
        times = self._times[step]
        for name, value in model.state_dict().items() if times else ():
            term = value.detach().float() * times
            self.sums[name] = self.sums[name] + term if name in self.sums else term

    def restore(self, checkpoint: Checkpoint, model: nn.Module) -> None:
        """Continue the sum of ``checkpoint``, split over ranks as ``model`` is."""
        if self.num_terms(checkpoint.step):
            own, found = model.state_dict(), load_sums(checkpoint)
            self.sums = {name: like(value, own[name]) for name, value in found.items()}


def epoch_end_steps(epochs: Sequence[int], *, steps_per_epoch: float, num_steps: int) -> list[int]:
    """Return the steps after which each epoch from the first to the last of ``epochs`` has ended.

    Args:
        epochs: (first, last), counted from 1; empty gives no step.
    """
    if not epochs:
        return []
    first, last = epochs
    ends = [round(epoch * steps_per_epoch) for epoch in range(first, last + 1)]
    return [min(max(1, end), num_steps) for end in ends]
