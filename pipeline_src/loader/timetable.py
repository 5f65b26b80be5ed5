"""Which stretch of the stream of clips each step takes, and under which mask ratios.

A pure function of the recipe and the number of clips: the stream of draws is cut into global
batches, whose size changes at the first step that starts in a new segment of the plan. A run
therefore continues at any step, on any number of ranks that shares its batches equally.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline_src.methods import MaskRatios


class Stretch(NamedTuple):
    """Steps of one batch size and one set of mask ratios, up to the next stretch.

    Args:
        first_step: 0-based.
        first_position: of the first clip of ``first_step`` in the stream of draws.
        batch_size: clips per step over all ranks.
        ratios: None where nothing is masked.
    """

    first_step: int
    first_position: int
    batch_size: int
    ratios: MaskRatios | None = None


@dataclass(frozen=True)
class Timetable:
    """Steps of a training and positions in its stream of draws, each as a function of the other.

    Args:
        num_clips: clips of an epoch.
        batch_size: what schedules count in: clips per step where nothing adapts the batch.
        stretches: in order; the first starts at step 0 and position 0.
    """

    num_clips: int
    batch_size: int
    num_steps: int
    stretches: tuple[Stretch, ...]

    def stretch(self, step: int) -> Stretch:
        """The stretch that a step lies in."""
        starts = [stretch.first_step for stretch in self.stretches]
        return self.stretches[bisect_right(starts, step) - 1]

    def positions(self, step: int) -> range:
        """Positions of the global batch of a step."""
        stretch = self.stretch(step)
        first = stretch.first_position + (step - stretch.first_step) * stretch.batch_size
        return range(first, first + stretch.batch_size)

    def samples_seen(self, step: int) -> int:
        """Clips that the steps before ``step`` take."""
        return self.positions(step).start

    def step_of(self, position: int) -> int:
        """The step whose batch holds a position."""
        starts = [stretch.first_position for stretch in self.stretches]
        stretch = self.stretches[bisect_right(starts, position) - 1]
        return stretch.first_step + (position - stretch.first_position) // stretch.batch_size

    @property
    def steps_per_epoch(self) -> float:
        """Steps of ``batch_size`` clips in an epoch."""
        return self.num_clips / self.batch_size

    @property
    def is_scheduled(self) -> bool:
        """Whether ratios or batch size change in the course of the training."""
        return len({stretch[2:] for stretch in self.stretches}) > 1


def even_timetable(num_clips: int, batch_size: int, epochs: float) -> Timetable:
    """Equal batches throughout."""
    return make_timetable(
        num_clips, epochs=epochs, batch_size=batch_size, segments=[(batch_size, None)]
    )


def make_timetable(
    num_clips: int,
    *,
    epochs: float,
    batch_size: int,
    segments: Sequence[tuple[int, MaskRatios | None]],
    segment_epochs: float = 1.0,
) -> Timetable:
    """Lay the segments of a plan over the stream of draws.

    A segment ends with the batch that reaches its end, so the next one may start a little later
    and, where a batch is longer than a segment, not at all. The training ends at the step whose end
    is nearest to the end of the last epoch, and has at least one.

    Args:
        batch_size: what schedules count in.
        segments: batch size and ratios of each span of ``segment_epochs`` epochs.
    """
    stretches: list[Stretch] = []
    step, position = 0, 0
    for number, (size, ratios) in enumerate(segments, start=1):
        if number == len(segments):
            num_steps = round(epochs * (num_clips / size) - position / size)
        else:
            end = round(number * segment_epochs * num_clips)
            num_steps = -((position - end) // size)
        num_steps = max(num_steps, 0 if stretches else 1)
        if num_steps > 0:
            stretches.append(Stretch(step, position, size, ratios))
            step, position = step + num_steps, position + num_steps * size
    return Timetable(num_clips, batch_size, step, tuple(stretches))
