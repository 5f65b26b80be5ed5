"""The published schedules: a rate that falls at ends of epochs, with and without warm-up."""

import pytest

from pipeline_src.config import OptimConfig
from pipeline_src.config.phases import even_schedule
from pipeline_src.train.learning_rate import learning_rate
from pipeline_src.train.progress import TrainProgress


def rates(num_clips, batch_size, num_epochs, **recipe):
    """The learning rate of every step, from the recipe."""
    schedule = even_schedule(num_clips, batch_size, num_epochs)
    optim = OptimConfig(lr=1.0, schedule="step", warmup_epochs=0, **recipe)
    progresses = [TrainProgress(step, schedule) for step in range(schedule.num_steps)]
    return [learning_rate(optim, progress) for progress in progresses]


@pytest.mark.parametrize(
    ("num_clips", "batch_size"), [(12, 4), (10, 3), (49, 1), (1_772_023, 4096)]
)
def test_the_stepped_rate_falls_exactly_at_the_ends_of_epochs(num_clips, batch_size):
    """From epoch 2 on x.75: a step has the rate of the epoch that its first clip is in."""
    recipe = {"decay_start_epoch": 2, "decay_every_epochs": 1, "decay_factor": 0.75}
    for step, rate in enumerate(rates(num_clips, batch_size, 6, **recipe)):
        epochs_done = step * batch_size // num_clips
        assert rate == pytest.approx(0.75 ** max(0, epochs_done - 1))


def test_the_stepped_rate_of_cav_maes_pretraining():
    """x.5 after 10, 15, 20 and 25 epochs; these are the defaults of the decay keys."""
    found = rates(8, 4, 27)[::2]
    assert found == [1.0] * 10 + [0.5] * 5 + [0.25] * 5 + [0.125] * 5 + [0.0625] * 2


def test_a_stepped_rate_warms_up_and_no_warm_up_starts_at_the_peak():
    optim = OptimConfig(lr=1.0, schedule="step", warmup_epochs=1)
    found = [
        learning_rate(optim, TrainProgress(step, even_schedule(10, 1, 10))) for step in range(12)
    ]
    assert found == pytest.approx([(step + 0.5) / 10 for step in range(10)] + [1, 1])
    assert rates(10, 1, 1)[0] == 1
    cosine = OptimConfig(lr=1.0, warmup_epochs=0)
    assert learning_rate(cosine, TrainProgress(0, even_schedule(10, 1, 100))) == pytest.approx(
        1, abs=1e-5
    )
