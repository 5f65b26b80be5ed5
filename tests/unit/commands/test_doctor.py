"""The doctor's checks of a machine, with stand-ins for Slurm's commands on PATH."""

from pathlib import Path

import pytest

from pipeline_src.commands.doctor import check_disk, check_link, check_slurm
from pipeline_src.dvc.results_folder import problems_of, refuse_outside
from pipeline_src.errors import StageError


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Put commands that answer as given on PATH, and nothing else."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def install(**answers: str) -> None:
        for name, script in answers.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    return install


@pytest.mark.parametrize(
    ("cluster", "state"), [("auto", "ok"), ("local", "ok"), ("slurm", "broken")]
)
def test_a_machine_without_slurm(slurm, cluster, state):
    (line,) = check_slurm(cluster)
    assert line.state == state
    assert "sbatch" in line.text


@pytest.mark.slow
@pytest.mark.parametrize(("cluster", "state"), [("slurm", "broken"), ("auto", "note")])
def test_a_slurm_that_does_not_answer(slurm, cluster, state):
    slurm(sbatch="exit 0", sinfo="exit 1")
    (line,) = check_slurm(cluster)
    assert line.state == state
    assert "--profile slurm will not work here" in line.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("storage", "num_lines"),
    [("accounting_storage/none", 2), ("(null)", 2), ("accounting_storage/slurmdbd", 1)],
)
def test_a_slurm_without_accounting_needs_squeue(slurm, storage, num_lines):
    slurm(sbatch="exit 0", sinfo="exit 0", scontrol=f"echo 'AccountingStorageType = {storage}'")
    lines = list(check_slurm("auto"))
    assert len(lines) == num_lines
    assert lines[0].state == "ok"
    assert ("slurm-status-command: squeue" in lines[-1].text) == (num_lines == 2)


def test_a_link_that_became_a_file_is_named(tmp_path):
    (tmp_path / "profiles/slurm").mkdir(parents=True)
    (tmp_path / "slurm").write_text("profiles/slurm")  # as a zip archive leaves it
    assert check_link(tmp_path).state == "broken"
    (tmp_path / "slurm").unlink()
    (tmp_path / "slurm").symlink_to("profiles/slurm")
    assert check_link(tmp_path).state == "ok"


def test_free_space_is_told_for_a_folder_that_is_not_there_yet(tmp_path):
    (line,) = check_disk(tmp_path / "not/yet")
    assert "GB free" in line.text


@pytest.mark.parametrize("linked", ["results", "results/digits", "results/digits/shards"])
def test_results_behind_a_link_are_seen_before_dvc_runs(tmp_path, linked):
    (tmp_path / "scratch").mkdir()
    (tmp_path / linked).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / linked).symlink_to(tmp_path / "scratch")
    with pytest.raises(StageError, match=f"^{linked} is a link to .*scratch"):
        refuse_outside(Path("results"), tmp_path)


def test_results_elsewhere_are_seen_before_dvc_runs(tmp_path):
    (tmp_path / "checkout").mkdir()
    assert "lies outside of" in next(problems_of(tmp_path / "results", tmp_path / "checkout"))
    assert not list(problems_of(Path("results"), tmp_path))
