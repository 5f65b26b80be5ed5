"""Shared fixtures: the repository's folder and a process environment like a user's shell."""

import os
import sys
from pathlib import Path

import pytest

from tests.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shell_env() -> dict[str, str]:
    """This process's environment with the interpreter's folder first on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory, shell_env) -> Workspace:
    """A fresh copy of the repository that tests only make dry runs in."""
    return Workspace.make(tmp_path_factory.mktemp("fresh"), shell_env)


@pytest.fixture(scope="session")
def built(tmp_path_factory, shell_env) -> Workspace:
    """A copy in which the tiny run has been built once, from raw video to report."""
    workspace = Workspace.make(tmp_path_factory.mktemp("built"), shell_env)
    workspace.snakemake("--workflow-profile", "test", "all")
    return workspace


@pytest.fixture(scope="session")
def versioned(tmp_path_factory, shell_env) -> Workspace:
    """A git repository in which ``dvc repro`` has built the tiny run and dvc.lock is committed."""
    workspace = Workspace.versioned(tmp_path_factory.mktemp("versioned"), shell_env)
    workspace.run("dvc", "repro")
    workspace.commit("results of the tiny run")
    return workspace


@pytest.fixture
def restored(versioned):
    """The built repository, put back afterwards."""
    yield versioned
    versioned.run("git", "checkout", "--quiet", "--force", "main")
    versioned.run("dvc", "checkout", "--quiet", "--force")
