"""Shared fixtures: the repository's folder and a process environment like a user's shell."""

import fcntl
import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline_src.errors import PipelineError
from pipeline_src.transcode.ffmpeg import find_ffmpeg
from tests.workspace import ONE_THREAD, Workspace

ROOT = Path(__file__).resolve().parents[1]
os.environ |= ONE_THREAD  # before a test imports torch
# What modules define is never garbage, and looking through it takes a fifth of fast tests' time.
gc.disable()  # until all are imported
# Kinds of tests in the order they begin: a cluster waits more than it works, so its neighbours have
# the machine, and short files come last, so that no process is left alone with a long one.
KINDS = ("slurm", "e2e", "workflow", "parity", "benchmarks", "integration", "unit")
FAST = ("parity", "benchmarks", "integration", "unit")  # but for those marked slow
STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn")  # audit events of a new process


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long kinds first; --no-loadscope-reorder hands them out so. All but the fast are slow."""
    kinds = {item: item.path.relative_to(ROOT / "tests").parts[0] for item in items}
    for item, kind in kinds.items():
        if kind not in FAST:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: (KINDS.index(kinds[item]), not item.get_closest_marker("slow")))


class FastTest:
    """The test that runs, if it is a fast one: it may start no process, which would not be fast."""

    name = ""

    @classmethod
    def refuse_processes(cls, event: str, args: tuple[object, ...]) -> None:
        """Fail it where it starts one; an audit hook of the interpreter."""
        if cls.name and event in STARTS:
            pytest.fail(f"{cls.name} starts a process ({args[:1]}): mark it slow")


sys.addaudithook(FastTest.refuse_processes)


def pytest_collection_finish() -> None:
    """Search for garbage from here on, but not in what has been imported."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Name the test that runs, fixtures included, unless it is marked slow."""
    if not item.get_closest_marker("slow"):
        with suppress(PipelineError):
            find_ffmpeg()  # which starts it, the first time in a process
        FastTest.name = item.nodeid
    try:
        return (yield)
    finally:
        FastTest.name = ""


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
def once(tmp_path_factory, shell_env):
    """Have a workspace made once for all test processes; the caller's own copy of it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def copy(name: str, make: Callable[[Path], None]) -> Workspace:
        made, record = folder / f"shared_{name}", folder / f"shared_{name}.done"
        with (folder / f"shared_{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not record.exists():
                shutil.rmtree(made, ignore_errors=True)  # of a process that failed
                made.mkdir()
                make(made)
                record.touch()
        return Workspace(made / "copy", shell_env).copied_to(tmp_path_factory.mktemp(name))

    return copy


@pytest.fixture(scope="session")
def built(once, shell_env) -> Workspace:
    """A copy in which the tiny run has been built, from raw video to report."""

    def make(folder: Path) -> None:
        Workspace.make(folder, shell_env).snakemake("--workflow-profile", "test", "all")

    return once("built", make)


@pytest.fixture(scope="session")
def versioned(once, shell_env) -> Workspace:
    """A git repository in which ``dvc repro`` has built the tiny run and dvc.lock is committed."""

    def make(folder: Path) -> None:
        workspace = Workspace.versioned(folder, shell_env)
        workspace.run("dvc", "repro")
        workspace.commit("results of the tiny run")

    return once("versioned", make)
