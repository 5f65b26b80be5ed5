"""Steps and positions of the stream: equal batches as ever, sizes that change between epochs."""

import pytest

from pipeline_src.config import OptimConfig
from pipeline_src.loader.timetable import Stretch, even_timetable, make_timetable
from pipeline_src.methods import MaskRatios
from pipeline_src.train.clock import Clock
from pipeline_src.train.schedule import cosine_with_warmup, learning_rate

HIGH, LOW = MaskRatios(0.9, 0.9), MaskRatios(0.8, 0.8)


def table(*sizes, num_clips=100, epochs=3.0, batch_size=8, **values):
    segments = [(size, None) for size in sizes]
    return make_timetable(
        num_clips, epochs=epochs, batch_size=batch_size, segments=segments, **values
    )


def starts(timetable):
    return [stretch[:3] for stretch in timetable.stretches]


def test_the_size_changes_at_the_first_step_that_starts_in_a_new_epoch():
    timetable = table(32, 16, 8)
    # 4 x 32 = 128 > 100, then 5 x 16 to 208 > 200, then 8s up to 304, the nearest end to 300.
    assert starts(timetable) == [(0, 0, 32), (4, 128, 16), (9, 208, 8)]
    assert timetable.num_steps == 4 + 5 + 12  # round(92 / 8) of the last
    assert timetable.samples_seen(timetable.num_steps) == 304
    ends = [timetable.positions(step).stop for step in range(timetable.num_steps)]
    assert ends == [timetable.samples_seen(step + 1) for step in range(timetable.num_steps)]


def test_a_batch_that_ends_with_its_epoch_takes_nothing_of_the_next():
    assert starts(table(50, 25, 20)) == [(0, 0, 50), (2, 100, 25), (6, 200, 20)]


def test_a_batch_longer_than_an_epoch_jumps_over_the_next_segment():
    assert starts(table(256, 16, 8)) == [(0, 0, 256), (1, 256, 8)]


def test_positions_and_steps_are_inverse():
    timetable = table(32, 16, 8)
    for step in range(timetable.num_steps + 2):
        assert {timetable.step_of(position) for position in timetable.positions(step)} == {step}


def test_segments_shorter_than_an_epoch():
    timetable = table(20, 10, num_clips=40, epochs=1, segment_epochs=0.5)
    assert starts(timetable) == [(0, 0, 20), (1, 20, 10)]
    assert timetable.num_steps == 3


@pytest.mark.parametrize("num_clips", [1, 7, 99, 2400, 183_727])
@pytest.mark.parametrize("batch_size", [1, 8, 50, 96])
@pytest.mark.parametrize("epochs", [0.01, 0.5, 2.3, 22])
def test_equal_batches_are_what_they_always_were(num_clips, batch_size, epochs):
    timetable = even_timetable(num_clips, batch_size, epochs)
    steps_per_epoch = num_clips / batch_size
    assert timetable.num_steps == max(1, round(epochs * steps_per_epoch))
    assert not timetable.is_scheduled
    recipe = OptimConfig(epochs=epochs, batch_size=batch_size, lr=1e-3)
    for step in (0, 1, timetable.num_steps // 2, timetable.num_steps - 1):
        assert timetable.positions(step) == range(step * batch_size, (step + 1) * batch_size)
        clock = Clock(step, timetable)
        assert clock.epoch == step / steps_per_epoch
        assert learning_rate(recipe, clock) == cosine_with_warmup(
            step,
            num_steps=timetable.num_steps,
            warmup_steps=round(recipe.warmup_epochs * steps_per_epoch),
            peak=1e-3,
            end=0.0,
        )


def test_only_what_changes_is_scheduled():
    def is_scheduled(*segments):
        return make_timetable(100, epochs=2, batch_size=8, segments=segments).is_scheduled

    assert is_scheduled((8, HIGH), (8, LOW))
    assert is_scheduled((16, HIGH), (8, HIGH))
    assert not is_scheduled((8, HIGH), (8, HIGH))


def test_ratios_are_those_of_the_step():
    timetable = make_timetable(64, epochs=2, batch_size=8, segments=[(16, HIGH), (8, LOW)])
    assert [timetable.stretch(step).ratios for step in (0, 3, 4, 11)] == [HIGH, HIGH, LOW, LOW]
    assert timetable.stretches[1] == Stretch(4, 64, 8, LOW)


def test_the_rate_follows_the_clips_seen_and_scales_with_the_batch():
    recipe = OptimConfig(epochs=2, batch_size=8, lr=1.0, warmup_epochs=0)
    adaptive = make_timetable(64, epochs=2, batch_size=8, segments=[(16, HIGH), (8, LOW)])
    even = even_timetable(64, 8, 2)

    def rate(timetable, step):
        return learning_rate(recipe, Clock(step, timetable))

    # After the change both have seen as many clips: the same rate for the same batch.
    assert [rate(adaptive, 4 + k) for k in range(8)] == [rate(even, 8 + k) for k in range(8)]
    # A batch of twice the size is as far as the two that it stands for, at twice the rate.
    for step in range(4):
        pair = (rate(even, 2 * step), rate(even, 2 * step + 1))
        assert rate(adaptive, step) / 2 == pytest.approx(sum(pair) / 2, rel=0.01)
