"""Count, mean and squared deviation of a stream of arrays, merged exactly (Chan et al. 1979)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Of ``count`` values: their mean, and the sum of squared differences to it."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets together."""
        if not other.count:
            return self
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * other.count / count
        m2 = self.m2 + other.m2 + delta**2 * self.count * other.count / count
        return Moments(count, mean, m2)

    @property
    def std(self) -> float:
        """Standard deviation of the set itself (not an estimate for a larger one)."""
        return (self.m2 / self.count) ** 0.5


def moments_of(array: np.ndarray) -> Moments:
    """Compute the moments of all values of ``array``, in float64."""
    values = array.astype(np.float64)
    mean = float(values.mean())
    return Moments(values.size, mean, float(np.square(values - mean).sum()))
