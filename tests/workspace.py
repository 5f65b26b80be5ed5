"""A copy of this checkout in its own folder with an empty home, driven as a user drives it."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline_src.config.load import merge
from tests.planner import dry_run

GIT_USER = {"user.name": "Test", "user.email": "test@example.org"}
ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_SECONDS = 1200  # of a hang: a slow machine that others use takes minutes
# Read when torch is imported and inherited by what a test starts. Threads of several test processes
# wait for each other's cores by spinning: a small network takes ten times the processor time then.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def checkout_files() -> list[str]:
    """Tracked and new files of this checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def private_site(folder: Path) -> dict[str, str]:
    """A folder for DVC's own state that nobody else may write to; DVC would make an open one."""
    site = folder / "site"
    site.mkdir(mode=0o700, exist_ok=True)
    return {"DVC_SITE_CACHE_DIR": str(site)}


@dataclass(frozen=True)
class Workspace:
    """A fresh copy of the repository."""

    root: Path
    env: dict[str, str]

    @classmethod
    def make(cls, folder: Path, env: dict[str, str]) -> "Workspace":
        """Copy the checkout to ``folder``; HOME is empty and no profile is set."""
        root = folder / "copy"
        for name in checkout_files():
            source, target = ROOT / name, root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                target.symlink_to(source.readlink())
            else:
                shutil.copy2(source, target)
        return cls.opened(folder, env)

    @classmethod
    def opened(cls, folder: Path, env: dict[str, str]) -> "Workspace":
        """Take the copy that lies in ``folder`` and give it an empty HOME."""
        home = folder / "home"
        home.mkdir()
        clean = {k: v for k, v in env.items() if not k.startswith(("SNAKEMAKE", "PYTHONPATH"))}
        return cls(folder / "copy", {**clean, "HOME": str(home), **ONE_THREAD})

    def copied_to(self, folder: Path) -> "Workspace":
        """All of it in another folder, times, links and records of both tools included."""
        shutil.copytree(self.root, folder / "copy", symlinks=True)
        return self.opened(folder, {**self.env, **private_site(folder)})

    def copy_results_to(self, other: "Workspace") -> None:
        """Give another copy what was built here, times and Snakemake's records included."""
        for name in ("results", ".snakemake"):
            shutil.copytree(self.root / name, other.root / name, dirs_exist_ok=True)

    @classmethod
    def versioned(cls, folder: Path, env: dict[str, str]) -> "Workspace":
        """A git repository whose config.yaml, which DVC reads, is the tiny run."""
        workspace = cls.make(folder, {**env, **private_site(folder)})
        path = workspace.root / "config/config.yaml"
        tiny = yaml.safe_load((ROOT / "config/test/tiny.yaml").read_text())
        tiny["results"] = "results"
        write_yaml(path, merge(yaml.safe_load(path.read_text()), tiny))
        workspace.run("python", "-m", "pipeline_src", "stages", "--write")
        workspace.run("git", "init", "--quiet", "--initial-branch", "main")
        for key, value in GIT_USER.items():
            workspace.run("git", "config", key, value)
        workspace.commit("tiny run")
        return workspace

    def commit(self, message: str) -> str:
        """Commit every change and return the commit."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)
        return self.run("git", "rev-parse", "HEAD").strip()

    def set(self, key: str, value: object) -> None:
        """Change one key of config.yaml; ``a.b.c`` names it."""
        path = self.root / "config/config.yaml"
        config = yaml.safe_load(path.read_text())
        *parents, last = key.split(".")
        section = config
        for name in parents:
            section = section[name]
        section[last] = value
        write_yaml(path, config)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start snakemake in a process group of its own."""
        return self.start_command("snakemake", *arguments)

    def start_command(self, *command: str) -> subprocess.Popen[str]:
        """Start any command in a process group of its own; it hears Ctrl-C, as from a terminal."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        """Run snakemake to its end and return what it printed; it must succeed, or must fail."""
        return self.run("snakemake", *arguments, fails=fails)

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command to its end and return what it printed; it must succeed, or must fail."""
        if command[0] == "snakemake" and "-n" in command:
            status, output = self.plan(*command)
        else:
            status, output = self._run(*command)
        assert (status != 0) == fails, output[-6000:]
        return output

    def plan(self, *command: str) -> tuple[int, str]:
        """Exit status and output of a dry run of snakemake."""
        return dry_run(command, self.root, self.env, TIMEOUT_SECONDS)

    def _run(self, *command: str) -> tuple[int, str]:
        process = self.start_command(*command)
        try:
            output = process.communicate(timeout=TIMEOUT_SECONDS)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode, output

    def kill_when(self, condition: Callable[[], bool], *arguments: str) -> None:
        """Start snakemake, wait for ``condition``, then kill -9 its whole process group."""
        self.kill_command_when(condition, "snakemake", *arguments)

    def kill_command_when(self, condition: Callable[[], bool], *command: str) -> None:
        """Start a command, wait for ``condition``, then kill -9 its whole process group."""
        process = self.start_command(*command)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline, "never got there"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def experiment_files(path: Path) -> list[str]:
    """The files that the command in an experiment's header reads, itself last."""
    command = re.search(r"^#   snakemake .*--configfile (.+?) --", path.read_text(), re.MULTILINE)
    own = str(path.relative_to(ROOT))
    files = command[1].split() if command else [own]
    assert files[-1] == own, f"{own}: its command reads another file last"
    return files


def planned_jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs, from the table of a dry run; empty when there is nothing to do."""
    table = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", output, re.DOTALL)
    if table is None:
        assert "Nothing to be done" in output, output[-3000:]
        return {}
    rows = [line.split() for line in table[1].splitlines()]
    return {name: int(count) for name, count in rows}


def write_yaml(path: Path, value: object) -> None:
    """Write ``value`` as YAML, keys in their order."""
    path.write_text(yaml.safe_dump(value, sort_keys=False))
