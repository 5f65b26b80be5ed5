"""Exact epochs, equal batches, order independent of ranks and of where a run is resumed."""

from collections import Counter

import pytest

from pipeline_src.config.phases import Phase, even_schedule, make_schedule
from pipeline_src.loader.sampler import (
    EpochSampler,
    balanced_weights,
    rank_slice,
    stratified_subset,
)


def even_sampler(num_samples, batch_size, *args, **values):
    schedule = even_schedule(num_samples or 1, batch_size, epochs=9)
    return EpochSampler(num_samples, schedule, *args, **values)


def stream(sampler: EpochSampler, num_steps: int) -> list[int]:
    return [draw.index for step in range(num_steps) for draw in sampler.batch(step)]


@pytest.mark.parametrize(("num_samples", "batch_size"), [(10, 4), (7, 7), (5, 8), (100, 1)])
def test_every_clip_occurs_once_per_epoch_over_batches_that_span_epochs(num_samples, batch_size):
    sampler = even_sampler(num_samples, batch_size, seed=3)
    num_epochs = 4
    indices = stream(sampler, -(-num_epochs * num_samples // batch_size))
    for epoch in range(num_epochs):
        part = indices[epoch * num_samples : (epoch + 1) * num_samples]
        assert sorted(part) == list(range(num_samples))


def test_epochs_differ_and_seeds_differ():
    order = stream(even_sampler(50, 50, seed=0), 2)
    assert order[:50] != order[50:]
    assert order[:50] != stream(even_sampler(50, 50, seed=1), 1)


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_share_batches_of_changing_size_in_the_order_of_one_process(world_size):
    table = make_schedule(50, epochs=3, batch_size=8, phases=[Phase(24), Phase(16), Phase(8)])
    whole = EpochSampler(50, table, seed=5)
    ranks = [EpochSampler(50, table, 5, rank, world_size) for rank in range(world_size)]
    for step in range(table.num_steps):
        shares = [rank.batch(step) for rank in ranks]
        assert {len(share) for share in shares} == {len(whole.batch(step)) // world_size}
        assert [draw for share in shares for draw in share] == whole.batch(step)
    seen = Counter(stream(whole, table.num_steps)[:150])
    assert seen == Counter(dict.fromkeys(range(50), 3))
    with pytest.raises(ValueError, match="batch_size=24 is not divisible by 5 ranks"):
        EpochSampler(50, table, 5, world_size=5)


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_ranks_share_the_same_global_batches_equally(world_size):
    whole = even_sampler(20, 6, seed=5)
    ranks = [even_sampler(20, 6, 5, rank, world_size) for rank in range(world_size)]
    for step in range(10):
        shares = [rank.batch(step) for rank in ranks]
        assert {len(share) for share in shares} == {6 // world_size}
        assert [draw for share in shares for draw in share] == whole.batch(step)


# Class 0 has 90 clips, class 1 has 9, and one clip has a class of its own beside class 0.
LABELS = [(0,)] * 89 + [(1,)] * 9 + [(0, 2)] + [()]


def test_balanced_weights_are_the_published_formula():
    values = balanced_weights(LABELS).values
    common, rare, own = (1000 / (count + 0.01) for count in (90, 9, 1))
    expected = [common] * 89 + [rare] * 9 + [common + own] + [0]
    assert values.tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="no clip has a label"):
        balanced_weights([(), ()])


def test_balanced_draws_follow_the_weights_and_epochs_differ():
    weights = balanced_weights(LABELS)
    sampler = even_sampler(len(LABELS), 50, seed=4, weights=weights)
    indices = stream(sampler, 2 * 1000)
    counts = Counter(indices)
    chances = weights.values / weights.values.sum()
    for index, chance in enumerate(chances):
        spread = 5 * (chance * (1 - chance) / len(indices)) ** 0.5
        assert counts[index] / len(indices) == pytest.approx(chance, abs=spread)
    assert sorted(indices[:100]) != sorted(indices[100:200])
    assert len(set(indices[:100])) < 100  # with replacement


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_ranks_together_draw_the_balanced_stream_of_one_process(world_size):
    weights = balanced_weights(LABELS)
    whole = even_sampler(100, 6, 5, weights=weights)
    ranks = [even_sampler(100, 6, 5, rank, world_size, weights) for rank in range(world_size)]
    for step in range(40):
        assert [draw for rank in ranks for draw in rank.batch(step)] == whole.batch(step)


def test_balanced_draws_resume_at_any_step():
    before = even_sampler(100, 6, seed=5, weights=balanced_weights(LABELS))
    after = even_sampler(100, 6, seed=5, weights=balanced_weights(LABELS))
    expected = [before.batch(step) for step in range(60)]
    assert [after.batch(step) for step in range(37, 60)] == expected[37:]


def test_a_batch_is_a_function_of_its_step_alone():
    sampler = even_sampler(20, 6, seed=5)
    backwards = [sampler.batch(step) for step in reversed(range(30))]
    assert backwards[::-1] == [even_sampler(20, 6, seed=5).batch(step) for step in range(30)]


def test_a_batch_that_ranks_cannot_share_is_refused():
    with pytest.raises(ValueError, match="batch_size=5 is not divisible by 2 ranks"):
        even_sampler(20, 5, 0, world_size=2)


def test_no_clips_are_refused():
    with pytest.raises(ValueError, match="no clips"):
        even_sampler(0, 5, 0)


def test_each_clip_is_scored_by_exactly_one_rank():
    seen = Counter(i for rank in range(3) for i in rank_slice(10, rank=rank, world_size=3))
    assert seen == Counter(range(10))


def test_subset_is_stratified_nested_and_never_drops_a_class():
    labels = [(i % 3,) for i in range(300)] + [(3,)]
    small = stratified_subset(labels, 0.1, seed=0)
    counts = Counter(labels[i][0] for i in small)
    assert counts == {0: 10, 1: 10, 2: 10, 3: 1}
    assert set(small) < set(stratified_subset(labels, 0.5, seed=0))
    assert stratified_subset(labels, 1.0, seed=0) == list(range(301))
