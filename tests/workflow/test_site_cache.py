"""DVC unpickles its state: in every checkout it lies where only its user may write."""

import os
import stat
from pathlib import Path

import pytest

from pipeline_src.commands.doctor import check_site_cache
from tests.workspace import GIT_USER, ROOT, Workspace

DEFAULT = Path("/var/tmp/dvc/repo")


@pytest.fixture(scope="module")
def clone(tmp_path_factory, shell_env):
    """A clone in which nothing has been set up."""
    folder = tmp_path_factory.mktemp("clone")
    env = {k: v for k, v in shell_env.items() if k not in ("DVC_SITE_CACHE_DIR", "XDG_CACHE_HOME")}
    workspace = Workspace.make(folder, env)
    workspace.run("git", "init", "--quiet")
    for key, value in GIT_USER.items():
        workspace.run("git", "config", key, value)
    return workspace


def states_below(folder):
    return {path for path in folder.glob("*") if path.is_dir()}


def closed(*folders):
    return not any(folder.stat().st_mode & stat.S_IWOTH for folder in folders)


def test_a_fresh_clone_keeps_its_state_in_a_folder_of_its_own(clone):
    before = states_below(DEFAULT)
    clone.run("dvc", "status")
    assert states_below(DEFAULT) == before
    repos = clone.root / ".dvc-site/repo"
    (state,) = states_below(repos)
    assert closed(state, repos, repos.parent)
    assert state.name not in clone.run("git", "status", "--porcelain", "--untracked-files=all")


def test_after_set_up_it_lies_in_the_users_cache_for_calls_from_anywhere(clone):
    before = states_below(DEFAULT)
    for _ in range(2):
        clone.run("python", "-m", "pipeline_src", "setup")
    clone.run("dvc", "--cd", "config", "status")
    assert states_below(DEFAULT) == before
    own = Path(clone.env["HOME"]) / ".cache/av-pipeline/dvc"
    (state,) = states_below(own / "repo")
    assert closed(state, own / "repo", own)
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert not (clone.root / "config/.dvc-site").exists()
    assert ".dvc/config.local" not in clone.run("git", "status", "--porcelain", "-uall")


def test_set_up_leaves_the_folder_alone_that_it_is_called_from(clone, tmp_path):
    before = states_below(DEFAULT)
    other = tmp_path / "other"
    other.mkdir()
    clone.run(
        "python",
        "-c",
        f"""
import os, sys
sys.path.insert(0, os.getcwd())
os.chdir({str(other)!r})
from pipeline_src.commands.cli import main
sys.exit(main(["setup"]))
""",
    )
    assert list(other.iterdir()) == []
    assert states_below(DEFAULT) == before
    assert (clone.root / ".dvc/plots.html").is_file()


def test_the_doctor_names_who_could_change_it(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder))
    assert "is missing, and DVC would make it open to everybody" in check_site_cache(ROOT).text
    (folder / "repo/token").mkdir(parents=True)
    for path in (folder, folder / "repo", folder / "repo/token"):
        path.chmod(0o755)
    assert check_site_cache(ROOT).state == "ok"
    for path in (folder, folder / "repo", folder / "repo/token"):
        for mode in (0o777, 0o1777, 0o775):
            path.chmod(mode)
            line = check_site_cache(ROOT)
            assert line.state == "broken"
            assert f"{path}: others may write there (mode {mode:o})" in line.text
        path.chmod(0o755)
    (folder / "repo/token").chmod(0o775)  # as DVC makes it where the umask is 002
    folder.chmod(0o700)
    assert check_site_cache(ROOT).state == "ok"
    folder.chmod(0o755)
    (folder / "repo/token").chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder / "repo/token", 12345, 12345)
        assert "belongs to user 12345" in check_site_cache(ROOT).text
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "link"))
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "repo").mkdir()
    assert "it is a link to" in check_site_cache(ROOT).text
