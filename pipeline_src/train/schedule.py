"""Learning rate as a function of progress."""

import math

# Far above the rounding of ``epoch``, far below the share of one clip in any epoch.
ROUNDING = 1e-9


def cosine_with_warmup(
    step: int, *, num_steps: int, warmup_steps: int, peak: float, end: float
) -> float:
    """Linear from 0 over ``warmup_steps``, then half a cosine from ``peak`` to ``end``.

    Step k uses the value at its middle, so that neither the first nor the last step is wasted at 0.
    """
    position = step + 0.5
    if position < warmup_steps:
        return peak * position / warmup_steps
    progress = (position - warmup_steps) / max(1, num_steps - warmup_steps)
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def falling_with_warmup(
    step: int,
    *,
    epoch: float,
    warmup_steps: int,
    peak: float,
    start_epoch: int,
    every_epochs: int,
    factor: float,
) -> float:
    """Linear from 0 over ``warmup_steps``, then ``peak`` times ``factor`` per fall (CAV-MAE).

    Args:
        epoch: passes over the clips before this step, so a step that spans two epochs still has
            the first one's rate.
        start_epoch, every_epochs: the rate falls at the ends of epochs start, start + every, ...
    """
    position = step + 0.5
    if position < warmup_steps:
        return peak * position / warmup_steps
    past_start = math.floor(epoch + ROUNDING) - start_epoch
    num_falls = past_start // every_epochs + 1 if past_start >= 0 else 0
    return peak * factor**num_falls
