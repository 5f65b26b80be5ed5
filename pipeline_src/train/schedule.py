"""Learning rate as a function of progress."""

import math


def cosine_with_warmup(
    step: float, *, num_steps: float, warmup_steps: int, peak: float, end: float
) -> float:
    """Linear from 0 over ``warmup_steps``, then half a cosine from ``peak`` to ``end``.

    Step k uses the value at its middle, so that neither the first nor the last step is wasted at 0.
    Steps are counted in batches of the recipe's size; a larger one is more than one.
    """
    position = step + 0.5
    if position < warmup_steps:
        return peak * position / warmup_steps
    progress = (position - warmup_steps) / max(1, num_steps - warmup_steps)
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
