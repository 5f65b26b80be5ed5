"""The phases of a training, and which clips of the stream of draws each of its steps takes.

A pure function of the recipe and the number of clips: the stream of draws is cut into global
batches, whose size changes at the first step that starts in a new phase. A run therefore continues
at any step, on any number of ranks that shares its batches equally.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from pipeline_src.methods import MaskRatios


class Phase(NamedTuple):
    """Consecutive steps of one batch size and one set of mask ratios.

    Args:
        batch_size: clips per step over all ranks.
        ratios: None where nothing is masked.
    """

    batch_size: int
    ratios: MaskRatios | None = None


@dataclass(frozen=True)
class Schedule:
    """Steps of a training and positions in its stream of draws, each as a function of the other.

    Args:
        num_clips: clips of an epoch.
        batch_size: what the learning rate counts in: clips per step where nothing adapts the batch.
        phases: in order, each with at least one step.
        num_phase_steps: steps of each phase.
    """

    num_clips: int
    batch_size: int
    phases: tuple[Phase, ...]
    num_phase_steps: tuple[int, ...]

    @cached_property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return sum(self.num_phase_steps)

    @cached_property
    def first_steps(self) -> list[int]:
        """First step of each phase, 0-based."""
        return [0, *accumulate(self.num_phase_steps)][:-1]

    @cached_property
    def first_positions(self) -> list[int]:
        """Position in the stream of draws at which each phase starts."""
        phases = zip(self.phases, self.num_phase_steps, strict=True)
        return [0, *accumulate(phase.batch_size * num_steps for phase, num_steps in phases)][:-1]

    def phase(self, step: int) -> Phase:
        """Return the phase that a step lies in."""
        return self.phases[bisect_right(self.first_steps, step) - 1]

    def positions(self, step: int) -> range:
        """Return the positions of the global batch of a step."""
        number = bisect_right(self.first_steps, step) - 1
        size = self.phases[number].batch_size
        first = self.first_positions[number] + (step - self.first_steps[number]) * size
        return range(first, first + size)

    def samples_seen(self, step: int) -> int:
        """Count the clips that the steps before ``step`` take."""
        return self.positions(step).start

    @property
    def steps_per_epoch(self) -> float:
        """Steps of ``batch_size`` clips in an epoch."""
        return self.num_clips / self.batch_size

    @cached_property
    def is_scheduled(self) -> bool:
        """Whether ratios or batch size change in the course of the training."""
        return len(set(self.phases)) > 1


def even_schedule(num_clips: int, batch_size: int, epochs: float) -> Schedule:
    """Schedule equal batches throughout."""
    return make_schedule(
        num_clips, epochs=epochs, batch_size=batch_size, phases=[Phase(batch_size)]
    )


def make_schedule(
    num_clips: int,
    *,
    epochs: float,
    batch_size: int,
    phases: Sequence[Phase],
    phase_epochs: float = 1.0,
) -> Schedule:
    """Lay phases of ``phase_epochs`` epochs each over the stream of draws.

    A phase ends with the batch that reaches its end, so the next one may start a little later and,
    where a batch is longer than a phase, not at all. The training ends at the step whose end is
    nearest to the end of the last epoch, and has at least one.

    Args:
        batch_size: what the learning rate counts in.
    """
    taken: list[tuple[Phase, int]] = []
    position = 0
    for number, phase in enumerate(phases, start=1):
        size = phase.batch_size
        if number == len(phases):
            num_steps = round(epochs * (num_clips / size) - position / size)
        else:
            end = round(number * phase_epochs * num_clips)
            num_steps = -((position - end) // size)
        num_steps = max(num_steps, 0 if taken else 1)
        if num_steps > 0:
            taken.append((phase, num_steps))
            position += num_steps * size
    kept, counts = zip(*taken, strict=True)
    return Schedule(num_clips, batch_size, kept, counts)
