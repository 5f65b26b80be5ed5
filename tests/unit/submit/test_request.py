"""What a training job asks for."""

import pytest

from pipeline_src.errors import ConfigError
from pipeline_src.submit.request import JobRequest


def test_resources_become_a_request():
    resources = {"nodes": 2, "tasks_per_node": 4, "mem_mb": 8000, "slurm_account": "a", "disk": 1}
    request = JobRequest.from_resources(resources)
    assert request.num_ranks == 8
    assert request.slurm_parameters() == {"slurm_account": "a", "slurm_mem": "8000M"}
    assert request.threads(rule_threads=8) == 2
    assert JobRequest(cpus_per_task=6).threads(rule_threads=1) == 6


@pytest.mark.parametrize(("runtime", "delay"), [(1440, 120), (8, 120), (2, 30)])
def test_the_warning_comes_early_enough_but_leaves_time_to_work(runtime, delay):
    assert JobRequest(runtime=runtime).signal_delay_seconds == delay


def test_further_options_are_checked():
    request = JobRequest(slurm_extra="--reservation=x '--exclude=n7,n8' --exclusive")
    assert request.extra_options() == {"reservation": "x", "exclude": "n7,n8", "exclusive": True}
    with pytest.raises(ConfigError, match="slurm_extra: '-p' is not of the form --option=value"):
        JobRequest(slurm_extra="-p gpu").extra_options()
