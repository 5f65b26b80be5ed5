"""Steps and positions of the stream: equal batches as ever, sizes that change between epochs."""

import pytest

from pipeline_src.config import OptimConfig, PretrainConfig
from pipeline_src.config.phases import Phase, even_schedule, make_schedule
from pipeline_src.methods import MaskRatios
from pipeline_src.train.learning_rate import cosine_with_warmup, learning_rate
from pipeline_src.train.progress import TrainProgress

HIGH, LOW = MaskRatios(0.9, 0.9), MaskRatios(0.8, 0.8)


def table(*sizes, num_clips=100, epochs=3.0, batch_size=8, **values):
    phases = [Phase(size) for size in sizes]
    return make_schedule(num_clips, epochs=epochs, batch_size=batch_size, phases=phases, **values)


def starts(schedule):
    sizes = [phase.batch_size for phase in schedule.phases]
    return list(zip(schedule.first_steps, schedule.first_positions, sizes, strict=True))


def test_the_size_changes_at_the_first_step_that_starts_in_a_new_epoch():
    schedule = table(32, 16, 8)
    # 4 x 32 = 128 > 100, then 5 x 16 to 208 > 200, then 8s up to 304, the nearest end to 300.
    assert starts(schedule) == [(0, 0, 32), (4, 128, 16), (9, 208, 8)]
    assert schedule.num_steps == 4 + 5 + 12  # round(92 / 8) of the last
    assert schedule.samples_seen(schedule.num_steps) == 304
    ends = [schedule.positions(step).stop for step in range(schedule.num_steps)]
    assert ends == [schedule.samples_seen(step + 1) for step in range(schedule.num_steps)]


def test_a_batch_that_ends_with_its_epoch_takes_nothing_of_the_next():
    assert starts(table(50, 25, 20)) == [(0, 0, 50), (2, 100, 25), (6, 200, 20)]


def test_a_batch_longer_than_an_epoch_jumps_over_the_next_segment():
    assert starts(table(256, 16, 8)) == [(0, 0, 256), (1, 256, 8)]


def test_steps_take_every_position_once_and_in_order():
    schedule = table(32, 16, 8)
    steps = range(schedule.num_steps + 2)
    taken = [position for step in steps for position in schedule.positions(step)]
    assert taken == list(range(schedule.samples_seen(schedule.num_steps + 2)))


def test_segments_shorter_than_an_epoch():
    schedule = table(20, 10, num_clips=40, epochs=1, phase_epochs=0.5)
    assert starts(schedule) == [(0, 0, 20), (1, 20, 10)]
    assert schedule.num_steps == 3


@pytest.mark.parametrize("num_clips", [1, 7, 99, 2400, 183_727])
@pytest.mark.parametrize("batch_size", [1, 8, 50, 96])
@pytest.mark.parametrize("epochs", [0.01, 0.5, 2.3, 22])
def test_equal_batches_are_what_they_always_were(num_clips, batch_size, epochs):
    schedule = even_schedule(num_clips, batch_size, epochs)
    steps_per_epoch = num_clips / batch_size
    assert schedule.num_steps == max(1, round(epochs * steps_per_epoch))
    assert not schedule.is_scheduled
    recipe = OptimConfig(epochs=epochs, batch_size=batch_size, lr=1e-3)
    for step in (0, 1, schedule.num_steps // 2, schedule.num_steps - 1):
        assert schedule.positions(step) == range(step * batch_size, (step + 1) * batch_size)
        progress = TrainProgress(step, schedule)
        assert progress.epoch == step / steps_per_epoch
        assert learning_rate(recipe, progress) == cosine_with_warmup(
            step,
            num_steps=schedule.num_steps,
            warmup_steps=round(recipe.warmup_epochs * steps_per_epoch),
            peak=1e-3,
            end=0.0,
        )


def test_only_what_changes_is_scheduled():
    def is_scheduled(*phases):
        return make_schedule(100, epochs=2, batch_size=8, phases=phases).is_scheduled

    assert is_scheduled(Phase(8, HIGH), Phase(8, LOW))
    assert is_scheduled(Phase(16, HIGH), Phase(8, HIGH))
    assert not is_scheduled(Phase(8, HIGH), Phase(8, HIGH))


def test_ratios_are_those_of_the_step():
    schedule = make_schedule(64, epochs=2, batch_size=8, phases=[Phase(16, HIGH), Phase(8, LOW)])
    assert [schedule.phase(step).ratios for step in (0, 3, 4, 11)] == [HIGH, HIGH, LOW, LOW]
    assert schedule.phases[1] == Phase(8, LOW)
    assert (schedule.first_steps[1], schedule.first_positions[1]) == (4, 64)


@pytest.mark.parametrize(("rule", "factor"), [("linear", 2), ("sqrt", 2**0.5)])
def test_the_rate_follows_the_clips_seen_and_scales_with_the_batch(rule, factor):
    keys = {"epochs": 2, "batch_size": 8, "lr": 1.0, "warmup_epochs": 0}
    recipe = PretrainConfig(**keys, adaptive_lr=rule)
    assert (PretrainConfig(**keys) == recipe) == (rule == "sqrt")
    adaptive = make_schedule(64, epochs=2, batch_size=8, phases=[Phase(16, HIGH), Phase(8, LOW)])
    even = even_schedule(64, 8, 2)

    def rate(schedule, step):
        return learning_rate(recipe, TrainProgress(step, schedule))

    # After the change both have seen as many clips: the same rate for the same batch.
    assert [rate(adaptive, 4 + k) for k in range(8)] == [rate(even, 8 + k) for k in range(8)]
    # A batch of twice the size is as far as the two that it stands for, at a higher rate.
    for step in range(4):
        pair = (rate(even, 2 * step), rate(even, 2 * step + 1))
        assert rate(adaptive, step) / factor == pytest.approx(sum(pair) / 2, rel=0.01)
