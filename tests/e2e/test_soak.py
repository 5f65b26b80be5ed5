"""A minute of random faults, from a seed: the run ends as if undisturbed. ``make soak``: longer."""

import pytest

from tests.soak import ROLES, disturb

pytestmark = [pytest.mark.e2e, pytest.mark.exhaustive]
SECONDS, SEED = 60, 1


def test_a_run_under_random_faults_ends_as_an_undisturbed_one(built, tmp_path, shell_env):
    how = {"seconds": SECONDS, "seed": SEED, "from_scratch": False}
    record = disturb(built.root, tmp_path, shell_env, **how)
    assert set(ROLES) <= {fault.removeprefix("kill ") for fault in record["faults"]}, record
