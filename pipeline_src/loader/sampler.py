"""Which clips stand in which batch: a pure function of (seed, step), so resuming needs no state.

The epochs' orders are laid end to end and cut into global batches as a schedule says: every clip
occurs exactly once per epoch over all ranks and workers, a batch may span two epochs, every rank
gets the same number of clips in a step, and a run continues at step k on any number of ranks with
the same batches. With weights an epoch is as many draws with replacement instead, shared by the
ranks in the same way.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline_src.config.phases import Schedule
from pipeline_src.config.training import num_labelled


@dataclass(frozen=True)
class Draw:
    """One clip of a batch: ``index`` in the shard set, ``position`` in the stream of draws."""

    index: int
    position: int


@dataclass(frozen=True, eq=False)
class ClipWeights:
    """Relative chances of clips to be drawn, (num_samples,) >= 0; equal only to itself."""

    values: NDArray


@dataclass(frozen=True)
class EpochSampler:
    """Exact, shuffled, endless order over ``num_samples`` clips.

    Args:
        schedule: which positions each step takes; batches divisible by ``world_size``.
        seed: of the orders; epoch e is shuffled or drawn by (seed, e).
        weights: None = every clip once per epoch; else ``num_samples`` draws with replacement.
    Raises:
        ValueError: no samples, or a batch that the ranks cannot share equally.
    """

    num_samples: int
    schedule: Schedule
    seed: int
    rank: int = 0
    world_size: int = 1
    weights: ClipWeights | None = None

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError("there are no clips to draw from")
        for phase in self.schedule.phases:
            if phase.batch_size % self.world_size:
                raise ValueError(
                    f"batch_size={phase.batch_size} is not divisible by {self.world_size} ranks"
                )

    @property
    def largest_batch(self) -> int:
        """Clips of this rank's largest batch."""
        phases = self.schedule.phases
        return max(phase.batch_size for phase in phases) // self.world_size

    def batch(self, step: int) -> list[Draw]:
        """Return this rank's share of global batch ``step`` (0-based)."""
        positions = self.schedule.positions(step)
        local = len(positions) // self.world_size
        first = positions.start + self.rank * local
        return [self._draw(position) for position in range(first, first + local)]

    def _draw(self, position: int) -> Draw:
        epoch, offset = divmod(position, self.num_samples)
        order = _epoch_order(self.num_samples, self.seed, epoch, self.weights)
        return Draw(int(order[offset]), position)


@lru_cache(maxsize=4)
def _epoch_order(
    num_samples: int, seed: int, epoch: int, weights: ClipWeights | None
) -> np.ndarray:
    """Draw the clips of an epoch: indices (num_samples,), each once, or drawn by ``weights``."""
    rng = np.random.default_rng((seed, epoch))
    if weights is None:
        return rng.permutation(num_samples)
    return rng.choice(num_samples, num_samples, p=weights.values / weights.values.sum())


def balanced_weights(labels: Sequence[tuple[int, ...]]) -> ClipWeights:
    """Sum 1000 / (clips of that class + .01) over a clip's labels (CAV-MAE, AVSiam, released).

    Raises:
        ValueError: no clip has a label.
    """
    counts = Counter(label for clip_labels in labels for label in clip_labels)
    if not counts:
        raise ValueError("balanced_sampling: no clip has a label")
    weight = {label: 1000 / (count + 0.01) for label, count in counts.items()}
    return ClipWeights(np.array([sum(weight[label] for label in one) for one in labels]))


def rank_slice(num_samples: int, *, rank: int, world_size: int) -> range:
    """Return the clips that ``rank`` scores: each clip belongs to exactly one rank."""
    return range(rank, num_samples, world_size)


def stratified_subset(labels: list[tuple[int, ...]], fraction: float, seed: int) -> list[int]:
    """Choose about ``fraction`` of the clips, at least one per class; all of them at 1.

    A clip counts for its first label. Nested: a smaller fraction of the same seed is a subset.
    """
    if fraction >= 1:
        return list(range(len(labels)))
    by_class: dict[int, list[int]] = {}
    for index, clip_labels in enumerate(labels):
        by_class.setdefault(clip_labels[0] if clip_labels else -1, []).append(index)
    chosen: list[int] = []
    for label in sorted(by_class):
        members = np.random.default_rng((seed, label + 1)).permutation(by_class[label])
        chosen.extend(int(i) for i in members[: num_labelled(fraction, len(members))])
    return sorted(chosen)
