"""Where trainings go, and what their cluster is told: by profile, command line and SLURM_CONF."""

import os
import subprocess

import pytest
import yaml

from pipeline_src.system.executor import (
    announce_executor,
    keep_slurm_conf,
    pick_cluster,
    replaced_resources,
)


def test_training_goes_where_the_other_jobs_go(monkeypatch):
    monkeypatch.delenv("PIPELINE_EXECUTOR", raising=False)
    assert pick_cluster("auto") == "local"
    for executor, cluster in (("slurm", "slurm"), ("local", "local"), ("cluster-generic", "local")):
        monkeypatch.setenv("PIPELINE_EXECUTOR", "local")  # restored afterwards
        announce_executor(executor)
        assert pick_cluster("auto") == cluster
    assert pick_cluster("slurm") == "slurm"


def test_what_the_command_line_takes_from_the_profile_is_found(root):
    profile = root / "profiles/slurm/profile.yaml"
    whole = yaml.safe_load(profile.read_text())["set-resources"]
    assert list(replaced_resources(profile, whole)) == []
    lost = dict(replaced_resources(profile, {"pretrain_model": {"nodes": 4}}))
    assert lost.keys() == whole.keys()
    assert {"gpus_per_node", "mem_mb", "runtime"} < set(lost["pretrain_model"])
    assert "nodes" not in lost["pretrain_model"]


@pytest.mark.slow
def test_slurm_conf_survives_a_plugin_that_drops_it(tmp_path, monkeypatch, root):
    """The commands are found through wrappers that put the variable back."""
    wrappers = root / "profiles/slurm/bin"
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$SLURM_CONF $*"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CONF", "/site/slurm.conf")
    monkeypatch.setenv("PIPELINE_SLURM_CONF", "")  # restored afterwards
    keep_slurm_conf(wrappers)
    keep_slurm_conf(wrappers)
    assert os.environ["PATH"].count(str(wrappers)) == 1
    monkeypatch.delenv("SLURM_CONF")
    said = subprocess.run(["srun", "-n1", "a b"], capture_output=True, text=True, check=True)
    assert said.stdout == "/site/slurm.conf -n1 a b\n"
