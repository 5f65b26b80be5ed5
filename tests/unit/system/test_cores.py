"""Threads of a training keep to a core each where they take all of them; nothing else does."""

import os
import subprocess
import sys

import pytest

from pipeline_src.system.cores import keep_threads_to_cores, num_cores

SCRIPT = """
import os
from pipeline_src.system.cores import bind_main_thread, free_main_thread
from pipeline_src.system.cores import keep_threads_to_cores, num_cores

first, second = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, {first, second})
keep_threads_to_cores(2, os.environ)
import torch

free_main_thread()
assert num_cores() == 2
torch.set_num_threads(2)
torch.ones(1 << 22).sum()
child = os.fork()
if not child:
    os._exit(os.sched_getaffinity(0) != {first, second})
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
bind_main_thread()
torch.ones(1 << 22).sum()
masks = [os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")]
assert {first} in masks and {second} in masks, masks
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or num_cores() < 2, reason="needs two cores, which CI has"
)
def test_each_thread_has_a_core_and_what_is_forked_has_all():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)


@pytest.mark.parametrize(
    ("num_threads", "environment"),
    [(1, {}), (3, {}), (8, {}), (4, {"OMP_PROC_BIND": "false"}), (4, {"GOMP_CPU_AFFINITY": "0-3"})],
)
def test_threads_are_left_alone_where_others_may_need_their_cores(
    monkeypatch, num_threads, environment
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    after = dict(environment)
    keep_threads_to_cores(num_threads, after)
    assert after == environment


def test_threads_are_left_alone_where_the_system_binds_none(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    after = {}
    keep_threads_to_cores(os.cpu_count() or 2, after)
    assert after == {}
