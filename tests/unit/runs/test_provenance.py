"""What a result says of what made it: versions, and a commit or unknown."""

import shutil
import subprocess

import pytest

from pipeline_src.runs import provenance
from pipeline_src.runs.provenance import PACKAGES, git_commit, package_versions
from pipeline_src.transcode import ffmpeg


@pytest.fixture
def asked_anew():
    """Forget the binary that was found, before and after."""
    caches = (ffmpeg.find_ffmpeg, ffmpeg._ask_version, package_versions)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.slow
def test_ffmpeg_and_the_page_reader_are_among_the_versions(asked_anew):
    versions = package_versions()
    said = subprocess.run([ffmpeg.find_ffmpeg(), "-version"], capture_output=True, text=True)
    assert said.stdout.startswith(f"ffmpeg version {versions['ffmpeg']} ")
    assert versions.keys() == {"python", "ffmpeg", *PACKAGES}
    assert versions["yt-dlp"][:2] == "20"  # its versions are dates


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'ffmpeg version n8.0-mine Copyright (c)'", "n8.0-mine"),
        ("exit 1", "absent"),
        ("true", "unknown"),
    ],
)
def test_the_binary_that_is_used_is_asked(asked_anew, tmp_path, monkeypatch, script, found):
    binary = tmp_path / "ffmpeg"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    monkeypatch.setenv(ffmpeg.ENVIRONMENT_VARIABLE, str(binary))
    assert package_versions()["ffmpeg"] == found


def test_a_node_without_ffmpeg_still_trains(asked_anew, monkeypatch):
    monkeypatch.setenv(ffmpeg.ENVIRONMENT_VARIABLE, "/nowhere/ffmpeg")
    assert package_versions()["ffmpeg"] == "absent"


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


@pytest.mark.slow
def test_without_a_repository_the_commit_is_unknown(project):
    assert git_commit() == "unknown"


@pytest.mark.slow
def test_a_repository_around_it_that_does_not_track_the_code_is_not_ours(project):
    (project.parent / ".gitignore").write_text("av/\n")
    commit_all(project.parent)
    assert git_commit() == "unknown"


@pytest.mark.slow
def test_a_repository_around_it_that_tracks_the_code_is(project):
    head = commit_all(project.parent)
    assert git_commit() == head


@pytest.mark.slow
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


@pytest.mark.slow
def test_settings_and_results_are_no_code(project):
    (project / "config").mkdir()
    (project / "config/config.yaml").write_text("a: 1\n")
    head = commit_all(project)
    (project / "config/config.yaml").write_text("a: 2\n")
    (project / "notes.py").write_text("")
    assert git_commit() == head


@pytest.mark.slow
def test_the_environment_of_a_hook_names_no_other_repository(project, tmp_path, monkeypatch):
    commit_all(tmp_path)  # holds the project's files, as a hook of it would say
    (tmp_path / "other").mkdir()
    commit_all(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert git_commit() != git(tmp_path / "other", "rev-parse", "HEAD")
