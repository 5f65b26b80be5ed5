"""Damaged files: thirty of the thousand inputs of benchmarks/fuzz.py."""

import pytest

from benchmarks.fuzz import make_input, run

pytestmark = pytest.mark.slow


def test_damaged_files_are_in_time_or_lost_for_a_reason():
    outcome = run(range(30))
    assert outcome.faults == []
    assert outcome.num_inputs == 30
    assert outcome.ends["ok"] > 5 < outcome.ends["corrupt"]


def test_a_stream_that_begins_midway_is_no_crash():
    assert run(range(182, 183)).faults == []


def test_the_same_seed_gives_the_same_input():
    assert make_input(7) == make_input(7) != make_input(8)
