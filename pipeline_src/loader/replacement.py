"""What is taken in place of a clip that cannot be decoded: another one, drawn by position.

The draw is uniform over all clips and a function of (seed, position in the stream) alone, so a run
that is resumed, or continued on other ranks, replaces the same clips by the same others. Only
training replaces; an evaluation that left a clip out would not say what it says.
"""

import numpy as np

from pipeline_src.errors import SampleError

PURPOSE = 2  # sets the draws apart from those of frames and cuts, and from those of mixup
MAX_REPLACEMENTS = 8  # for one place of a batch; more bad clips in a row are no accident


class Replacements:
    """The clips that could not be decoded for one place of a batch, and what is taken instead.

    Args:
        limit: how many; 0 = none, the error stands.
    """

    def __init__(self, num_clips: int, *, seed: int, position: int, limit: int) -> None:
        self._num_clips, self._limit = num_clips, limit
        self._seed = (seed, position, PURPOSE)
        self.failed: list[int] = []

    def next_index(self, index: int, error: SampleError) -> int:
        """Return the clip to try next.

        Raises:
            SampleError: ``error``, where too many others have failed too.
        """
        if len(self.failed) >= self._limit:
            raise error
        self.failed.append(index)
        draws = np.random.default_rng(self._seed).integers(self._num_clips, size=self._limit)
        return int(draws[len(self.failed) - 1])

    def padded(self) -> list[int]:
        """Return the indices of clips that could not be decoded, and -1 up to MAX_REPLACEMENTS."""
        return self.failed + [-1] * (MAX_REPLACEMENTS - len(self.failed))
