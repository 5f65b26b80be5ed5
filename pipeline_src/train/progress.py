"""Where a training is, in steps, clips and seconds."""

import time
from dataclasses import dataclass, field

from pipeline_src.config.phases import Schedule


@dataclass
class TrainProgress:
    """Where the run is; all of it but the clock is a function of ``step``."""

    step: int
    schedule: Schedule
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return self.schedule.num_steps

    @property
    def steps_per_epoch(self) -> float:
        """Steps of the recipe's ``batch_size`` in an epoch."""
        return self.schedule.steps_per_epoch

    @property
    def total_seconds(self) -> float:
        """Training time, earlier attempts counted in."""
        return self.seconds + time.monotonic() - self.started

    @property
    def samples_seen(self) -> int:
        """Clips of the steps that are done."""
        return self.schedule.samples_seen(self.step)

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self.samples_seen / self.schedule.batch_size / self.steps_per_epoch
