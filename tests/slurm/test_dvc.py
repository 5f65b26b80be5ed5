"""``SNAKEMAKE_PROFILE=slurm dvc repro``: DVC decides what, Snakemake sends it to the cluster."""

import json

import pytest

from tests.workspace import Workspace

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
FINETUNE = "finetune_avsiam_tiny_digits"
LOGMEL = "logmel_digits"


def logmel_jobs(cluster) -> int:
    known = cluster.run("scontrol", "show", "job", "--oneliner").splitlines()
    return sum("Comment=rule_extract_logmel" in line for line in known)


def look_at_jobs_early(workspace: Workspace) -> None:
    path = workspace.root / "profiles/slurm/profile.yaml"
    key = "slurm-init-seconds-before-status-checks: "
    path.write_text(path.read_text().replace(f"{key}40", f"{key}2"))


@pytest.fixture
def here(versioned, slurm_env, tmp_path) -> Workspace:
    """A copy of its own: Snakemake's records of jobs on the cluster stay in it."""
    own = versioned.copied_to(tmp_path)
    return Workspace(own.root, {**own.env, **slurm_env, "SNAKEMAKE_PROFILE": "slurm"})


@pytest.mark.exhaustive
def test_repro_sends_its_stages_to_the_cluster(here, cluster):
    look_at_jobs_early(here)
    here.set("finetune.lr", 0.02)
    here.run("dvc", "repro", FINETUNE)
    job = json.loads((here.root / "results/avsiam_tiny/finetune/digits/job.json").read_text())
    assert job["cluster"] == "slurm"
    assert "up to date" in here.run("dvc", "repro", FINETUNE)

    before = logmel_jobs(cluster)
    here.set("audio.low_freq_hz", 30.0)
    here.run("dvc", "repro", LOGMEL)
    assert logmel_jobs(cluster) == before + 4
