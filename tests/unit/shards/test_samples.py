"""The table of samples gives back what it was made of."""

import pickle
import random

import pytest

from pipeline_src.shards.files import RemoteShard
from pipeline_src.shards.samples import Sample, SampleTable


def draw_sample(number):
    rng = random.Random(number)
    shard = rng.choice([RemoteShard("https://a/b.tar", 9, "0" * 64), "shards/0.tar"])
    labels = tuple(rng.sample(range(4000), rng.choice([0, 1, 1, 7])))
    name = "".join(rng.choice("aé\U0001f600\ud800\0 ") for _ in range(rng.randrange(9)))
    offset = rng.choice([0, 512, 1 << 40])
    return Sample(
        shard, f"k{number}", offset, rng.choice([1, 2**31 - 2**12]), labels, name, 2**32 - 1
    )


SAMPLES = [draw_sample(number) for number in range(50)]


@pytest.mark.parametrize("through", [lambda table: table, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_table_gives_the_samples_that_it_was_made_of(through):
    table = through(SampleTable(iter(SAMPLES)))
    assert [*table] == SAMPLES
    assert len(table) == 50
    assert (table[7], table[-1], table[3:9:2]) == (SAMPLES[7], SAMPLES[-1], SAMPLES[3:9:2])
    with pytest.raises(IndexError):
        table[50]


def test_an_empty_table_has_no_samples():
    assert [*SampleTable([])] == []
    assert not SampleTable([])


def test_a_sample_takes_a_fraction_of_a_tuples_memory():
    """Two million tuples were 900 MB in every loader process."""
    usual = [
        Sample("0.tar", f"{n:08d}-abcdef0123", n << 10, 900, (n % 500,), f"clip-{n}", n)
        for n in range(1000)
    ]
    assert len(pickle.dumps(SampleTable(usual))) < 100 * len(usual)
