"""Learning rate as a function of progress."""

import math

from pipeline_src.config import OptimConfig
from pipeline_src.train.progress import TrainProgress

# Far above the rounding of ``epoch``, far below the share of one clip in any epoch.
ROUNDING = 1e-9


def learning_rate(recipe: OptimConfig, progress: TrainProgress) -> float:
    """Return the peak rate shaped by warm-up and schedule at the next step, by the clips seen.

    A batch of another size than the recipe's scales it as ``adaptive_lr`` says.
    """
    schedule = progress.schedule
    scale = schedule.phase(progress.step).batch_size / schedule.batch_size
    step = progress.samples_seen / schedule.batch_size + (scale - 1) / 2  # same middle
    warmup_steps = round(recipe.warmup_epochs * progress.steps_per_epoch)
    factor = recipe.batch_lr_factor(scale)
    if recipe.schedule == "step":
        return factor * falling_with_warmup(
            step,
            epoch=progress.epoch,
            warmup_steps=warmup_steps,
            peak=recipe.lr,
            start_epoch=recipe.decay_start_epoch,
            every_epochs=recipe.decay_every_epochs,
            factor=recipe.decay_factor,
        )
    return factor * cosine_with_warmup(
        step,
        num_steps=schedule.samples_seen(progress.num_steps) / schedule.batch_size,
        warmup_steps=warmup_steps,
        peak=recipe.lr,
        end=recipe.min_lr,
    )


def cosine_with_warmup(
    step: float, *, num_steps: float, warmup_steps: int, peak: float, end: float
) -> float:
    """Rise linearly from 0 over ``warmup_steps``, then fall to ``end`` by half a cosine.

    Step k uses the value at its middle, so that neither the first nor the last step is wasted at 0.
    Steps are counted in batches of the recipe's size; a larger one is more than one.
    """
    position = step + 0.5
    if position < warmup_steps:
        return peak * position / warmup_steps
    progress = (position - warmup_steps) / max(1, num_steps - warmup_steps)
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def falling_with_warmup(
    step: float,
    *,
    epoch: float,
    warmup_steps: int,
    peak: float,
    start_epoch: int,
    every_epochs: int,
    factor: float,
) -> float:
    """Rise linearly from 0 over ``warmup_steps``, then fall by ``factor`` at a time (CAV-MAE).

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
