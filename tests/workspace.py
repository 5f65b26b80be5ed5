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

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_SECONDS = 400


def checkout_files() -> list[str]:
    """Tracked and new files of this checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


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
        home = folder / "home"
        home.mkdir()
        clean = {k: v for k, v in env.items() if not k.startswith(("SNAKEMAKE", "PYTHONPATH"))}
        return cls(root, {**clean, "HOME": str(home), "OMP_NUM_THREADS": "1"})

    def copy_results_to(self, other: "Workspace") -> None:
        """Give another copy what was built here, times and Snakemake's records included."""
        for name in ("results", ".snakemake"):
            shutil.copytree(self.root / name, other.root / name, dirs_exist_ok=True)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start snakemake in a process group of its own."""
        return subprocess.Popen(
            ["snakemake", *arguments],
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str) -> str:
        """Run any command in the copy and return what it printed to stdout; it must succeed."""
        done = subprocess.run(
            command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        """Run snakemake to its end and return what it printed; it must succeed, or must fail."""
        process = self.start(*arguments)
        try:
            output = process.communicate(timeout=TIMEOUT_SECONDS)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert (process.returncode != 0) == fails, output[-6000:]
        return output

    def kill_when(self, condition: Callable[[], bool], *arguments: str) -> None:
        """Start snakemake, wait for ``condition``, then kill -9 its whole process group."""
        process = self.start(*arguments)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline, "never got there"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def planned_jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs, from the table of a dry run; empty when there is nothing to do."""
    table = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", output, re.DOTALL)
    if table is None:
        assert "Nothing to be done" in output, output[-3000:]
        return {}
    rows = [line.split() for line in table[1].splitlines()]
    return {name: int(count) for name, count in rows}
