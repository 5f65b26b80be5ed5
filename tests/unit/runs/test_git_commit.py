"""The commit of a result is that of its code, or unknown."""

import shutil
import subprocess

import pytest

from pipeline_src.commands.reproduce import prepare_checkout
from pipeline_src.errors import StageError
from pipeline_src.runs import provenance
from pipeline_src.runs.provenance import git_commit

pytestmark = pytest.mark.slow


@pytest.fixture
def project(root, tmp_path, monkeypatch):
    """A copy of the code two folders down, without .git, taken for the one that runs."""
    folder = tmp_path / "outer/av"
    shutil.copytree(root / "pipeline_src", folder / "pipeline_src")
    shutil.copy(root / "Snakefile", folder)
    monkeypatch.setattr(provenance, "CHECKOUT", folder)
    git_commit.cache_clear()
    yield folder
    git_commit.cache_clear()


def git(folder, *arguments):
    user = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    command = ["git", "-C", str(folder), *user, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit_all(folder):
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "m")
    return git(folder, "rev-parse", "HEAD")


def test_without_a_repository_the_commit_is_unknown(project):
    assert git_commit() == "unknown"


def test_a_repository_around_it_that_does_not_track_the_code_is_not_ours(project):
    (project.parent / ".gitignore").write_text("av/\n")
    commit_all(project.parent)
    assert git_commit() == "unknown"


def test_a_repository_around_it_that_tracks_the_code_is(project):
    head = commit_all(project.parent)
    assert git_commit() == head


@pytest.mark.parametrize("edit", ["tracked", "new file", "ignored file"])
def test_code_that_no_commit_holds_is_dirty(project, edit):
    (project / ".gitignore").write_text("hidden.py\n")
    head = commit_all(project)
    name = {
        "tracked": "evaluate/metrics.py",
        "new file": "evaluate/new.py",
        "ignored file": "hidden.py",
    }
    with (project / "pipeline_src" / name[edit]).open("a") as stream:
        stream.write("# an edit\n")
    assert git_commit() == f"{head}-dirty"


def test_settings_and_results_are_no_code(project):
    (project / "config").mkdir()
    (project / "config/config.yaml").write_text("a: 1\n")
    head = commit_all(project)
    (project / "config/config.yaml").write_text("a: 2\n")
    (project / "notes.py").write_text("")
    assert git_commit() == head


def test_the_environment_of_a_hook_names_no_other_repository(project, tmp_path, monkeypatch):
    commit_all(tmp_path)  # holds the project's files, as a hook of it would say
    (tmp_path / "other").mkdir()
    commit_all(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert git_commit() != git(tmp_path / "other", "rev-parse", "HEAD")


def test_figures_of_unknown_code_are_not_made_again(tmp_path):
    with pytest.raises(StageError, match="the code that made them is missing"):
        prepare_checkout(tmp_path, "unknown", {})
