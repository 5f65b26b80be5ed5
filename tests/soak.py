"""Disturb the tiny run at random, and see that it ends as if nothing had happened.

``make soak`` does it for ten minutes, a test for one. Faults are drawn from a seed: signals to any
process of the run, a disk that is full for a while, damaged shards and checkpoints, a second start.
Whatever the seed, each of ``ROLES`` is killed once, as soon as there is one. At the end the shards
are the same byte for byte, the losses the same to the last digit, every listed clip is in a shard
or in a ledger, and no process is left.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline_src.datasets.chunk_plan import read_plan_chunk
from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.manifest.ledger import read_ledger
from tests.workspace import Workspace

TINY = ("--workflow-profile", "test")
SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "pause": signal.SIGSTOP}
ROLES = ("head", "waiter", "rank", "loader")  # those whose ends differ
PAUSE_SECONDS = (0.5, 3.0)
FULL_SECONDS = 2.0
CALM_SECONDS = (0.5, 5.0)  # between two faults
AIM_SECONDS = 0.3  # from the first sight of a role to its end
HEAD_SHARE = 0.15  # of the signals: what kills the head ends the start
BUSY_SECONDS = 300.0  # more, in which the run is let go on to roles that were never met
END_SECONDS = 400.0
DISK_MIB = 96
MARK = "SOAK_RUN"  # an environment variable by which every process of a run is known


def outcome(root: Path) -> dict[str, object]:
    """What a finished tiny run must have in common with an undisturbed one."""
    results = root / "results/test"
    shards = sorted(results.glob("digits/shards/*/*.tar"))
    losses = {}
    for path in sorted(results.glob("avsiam_tiny/**/metrics.jsonl")):
        if "superseded" in path.parts:
            continue
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found = [(row["step"], row["loss"]) for row in rows if "loss" in row]
        losses[str(path.relative_to(results))] = found
    return {
        "shards": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shards},
        "losses": losses,
        "clips": clips_of(results / "digits"),
    }


def clips_of(dataset: Path) -> dict[str, str]:
    """Map each clip of the plan to ``packed``, or to the reason that a ledger has for it.

    Raises:
        AssertionError: a clip is in neither.
    """
    found: dict[str, str] = {}
    for path in sorted(dataset.glob("shards/*/[0-9]*.json")):
        rows = read_ledger(path.with_suffix(".ledger.csv"))
        found |= {f"{path.parent.name}/{row.clip_id}": row.reason for row in rows if row.reason}
        packed = [clip["clip_id"] for clip in read_chunk(path, "pack").clips]
        found |= {f"{path.parent.name}/{clip_id}": "packed" for clip_id in packed}
    plans = sorted(dataset.glob("plan/*/*.csv"))
    listed = {
        f"{path.parent.name}/{clip.clip_id}"
        for path in plans
        for clip in read_plan_chunk(path, path.parent.name)
    }
    assert listed == found.keys(), sorted(listed ^ found.keys())
    return found


class Soak:
    """One disturbed run in a workspace of its own.

    Args:
        mounts: whether results lie on a small disk of their own, which needs root.
    """

    def __init__(self, workspace: Workspace, seed: int, *, mounts: bool) -> None:
        self.mark = f"{os.getpid()}-{seed}"
        self.workspace = Workspace(workspace.root, {**workspace.env, MARK: self.mark})
        self.results = workspace.root / "results/test"
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.mounts = mounts
        self._process: subprocess.Popen[str] | None = None

    def run(self, seconds: float) -> None:
        """Disturb for that long, on a busy machine until each role was met; then let it end."""
        begun = time.monotonic()

        def is_before(limit: float) -> bool:
            return time.monotonic() - begun < limit

        while is_before(seconds) or (self._missing() and is_before(seconds + BUSY_SECONDS)):
            process = self._start()
            while self._is_running() and (is_before(seconds) or self._missing()):
                aimed = self._calm()
                if aimed or is_before(seconds):
                    self._disturb(aimed)
            output = self._stop()
            if process.returncode == 0:
                self._forget(output)
            self._damage()
        self.finish()

    def finish(self) -> None:
        """The same command until it succeeds; a failure must say what to do, and it is done."""
        last = ""
        for _ in range(4):
            process = self._start()
            output, _ = process.communicate(timeout=END_SECONDS)
            if process.returncode == 0:
                return
            self.counts["failed starts after the faults"] += 1
            last = output
        raise AssertionError(f"the run does not recover:\n{last[-4000:]}")

    def processes(self) -> list[psutil.Process]:
        """Every living process of the run, also those that left its process group."""
        found = []
        for process in psutil.process_iter(["pid"]):
            try:
                is_ours = process.environ().get(MARK) == self.mark
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def _start(self) -> subprocess.Popen[str]:
        self.counts["starts"] += 1
        self._process = self.workspace.start(*TINY, "all")
        return self._process

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _stop(self) -> str:
        """Kill whatever is left of this start; return what it printed."""
        assert self._process is not None
        for process in self.processes():
            _ignore_gone(process.kill)
        return self._process.communicate()[0]

    def _forget(self, output: str) -> None:
        """Have a run that is done trained again: nothing else is left to disturb."""
        self.counts["trained again"] += 1
        is_done = (self.results / "report/index.html").exists()
        assert is_done, f"a start that did not end its work said that it did:\n{output[-4000:]}"
        shutil.rmtree(self.results / "avsiam_tiny")

    def _missing(self) -> list[str]:
        """Roles that were never killed."""
        return [role for role in ROLES if not self.counts[f"kill {role}"]]

    def _calm(self) -> psutil.Process | None:
        """Disturb nothing for a while, at most until there is a role that was never killed."""
        end = time.monotonic() + self.random.uniform(*CALM_SECONDS)
        while self._is_running() and time.monotonic() < end:
            missing = self._missing()
            for process in self.processes() if missing else []:
                if role_of(process) in missing:
                    time.sleep(self.random.uniform(0, AIM_SECONDS))
                    return process
            time.sleep(0.05)
        return None

    def _disturb(self, aimed: psutil.Process | None) -> None:
        if not self._is_running():
            return
        if aimed:
            self._send("kill", aimed)
            return
        kinds: list[Callable[[], None]] = [self._signal] * 6 + [self._second_start]
        if self.mounts:
            kinds.append(self._fill_disk)
        self.random.choice(kinds)()

    def _signal(self) -> None:
        targets = self.processes()
        if not targets:
            return
        roles = sorted({role_of(process) for process in targets})
        workers = [role for role in roles if role != "head"]
        is_worker = workers and self.random.random() > HEAD_SHARE
        role = self.random.choice(workers if is_worker else roles)
        target = self.random.choice([one for one in targets if role_of(one) == role])
        self._send(self.random.choice(sorted(SIGNALS)), target)

    def _send(self, name: str, target: psutil.Process) -> None:
        role = role_of(target)
        with suppress(psutil.NoSuchProcess):
            target.send_signal(SIGNALS[name])
            self.counts[f"{name} {role}"] += 1
        if name == "pause":
            time.sleep(self.random.uniform(*PAUSE_SECONDS))
            _ignore_gone(target.resume)

    def _second_start(self) -> None:
        """Another call in the same folder is refused and disturbs nothing."""
        self.counts["second starts"] += 1
        output = subprocess.run(
            ["snakemake", *TINY, "all"],
            cwd=self.workspace.root,
            env=self.workspace.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=END_SECONDS,
        )
        if self._is_running() and "results/test" not in output.stderr:
            raise AssertionError(f"a second start was not refused by name:\n{output.stderr}")

    def _fill_disk(self) -> None:
        self.counts["full disks"] += 1
        filler = self.results / "filler"
        try:
            with filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(1 << 20))
        except OSError:
            time.sleep(FULL_SECONDS)
        filler.unlink(missing_ok=True)

    def _damage(self) -> None:
        """Flip a byte of a shard, which ``verify`` finds, or of a checkpoint to continue from."""
        shards = sorted(self.results.glob("digits/shards/*/*.tar"))
        unfinished = [
            path
            for path in sorted(self.results.glob("avsiam_tiny/**/checkpoints/step_*/*.safetensors"))
            if not (path.parents[2] / "done.json").exists()
        ]
        if unfinished and self.random.random() < 0.5:
            self.counts["flipped checkpoints"] += 1
            flip(self.random.choice(unfinished), self.random)
        elif shards and self.random.random() < 0.5:
            self.counts["flipped shards"] += 1
            damaged = self.random.choice(shards)
            flip(damaged, self.random)
            self._repair(damaged)

    def _repair(self, shard: Path) -> None:
        """Verify finds a damaged shard; without its manifest, as messages say, it is made again."""
        tars = shard.parent.glob("*.tar")
        # Until the next start has packed again what was repaired before, an index does not fit.
        is_whole = all(manifest_of(tar).exists() for tar in tars)
        if is_whole and (shard.parent / "index.json").exists():
            command = [sys.executable, "-m", "pipeline_src", "verify", str(shard.parent)]
            found = subprocess.run(
                command,
                cwd=self.workspace.root,
                env={**self.workspace.env, "PYTHONPATH": str(self.workspace.root)},
                capture_output=True,
                text=True,
            )
            said = found.stdout + found.stderr
            if found.returncode == 0 or shard.name not in said:
                raise AssertionError(f"the damage of {shard} was not found:\n{said}")
        manifest_of(shard).unlink(missing_ok=True)


def manifest_of(shard: Path) -> Path:
    """The manifest that a shard is made again for when it is gone."""
    chunk = re.search(r"-(\d{5})", shard.name)
    assert chunk is not None
    return shard.with_name(f"{chunk[1]}.json")


def role_of(process: psutil.Process) -> str:
    """What a process does for the run."""
    try:
        command = " ".join(process.cmdline())
        parents = [" ".join(parent.cmdline()) for parent in process.parents()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return "gone"
    if "ffmpeg" in command.partition(" ")[0]:
        return "ffmpeg"
    if "submitit.core._submit" in command:
        is_loader = any("submitit.core._submit" in parent for parent in parents)
        return "loader" if is_loader else "rank"
    if "submitit" in command:
        return "controller"
    if ".snakemake/scripts" in command:
        return "waiter" if "_model.py" in command else "stage"
    return "head" if "snakemake" in command else "other"


def flip(path: Path, generator: random.Random) -> None:
    """Change one byte somewhere in the second half of a file."""
    content = bytearray(path.read_bytes())
    if content:
        content[generator.randrange(len(content) // 2, len(content))] ^= 0xFF
        path.write_bytes(content)


def _ignore_gone(call: Callable[[], object]) -> None:
    with suppress(psutil.NoSuchProcess):
        call()


def mount_small_disk(folder: Path) -> bool:
    """Put ``folder`` on a disk of its own, if this user may."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


def disturb(
    reference: Path,
    folder: Path,
    env: dict[str, str],
    *,
    seconds: float,
    seed: int,
    from_scratch: bool = True,
) -> dict[str, object]:
    """Disturb a run in ``folder`` and compare it with the finished one in ``reference``.

    Args:
        from_scratch: False begins with the reference's data but for the shards of one split, so
            that trainings are reached in a minute.
    Returns:
        Counts of the faults, and whether the disk could be filled.

    Raises:
        AssertionError: something is not as in the undisturbed run, or was left behind.
    """
    workspace = Workspace.make(folder, env)
    results = workspace.root / "results/test"
    mounts = mount_small_disk(results)
    soak = Soak(workspace, seed, mounts=mounts)
    if not from_scratch:
        Workspace(reference, env).copy_results_to(workspace)
        for made in ("avsiam_tiny", "report", "digits/shards/val"):
            shutil.rmtree(results / made)
    try:
        soak.run(seconds)
        expected, found = outcome(reference), outcome(workspace.root)
        for name, value in expected.items():
            assert found[name] == value, f"{name} differ: {found[name]} instead of {value}"
        left = psutil.wait_procs(soak.processes(), timeout=30)[1]
        assert not left, [process.cmdline() for process in left]
        assert not list(results.rglob("*.part"))
    finally:
        for process in soak.processes():
            _ignore_gone(process.kill)
        if mounts:
            subprocess.run(["umount", "--lazy", str(results)], check=True)
    return {"seed": seed, "seconds": seconds, "small_disk": mounts, "faults": dict(soak.counts)}


def main() -> None:
    """Build the undisturbed run, disturb another one, and print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", type=Path, help="where the counts are written too")
    options = parser.parse_args()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folders = [Path(name, one) for one in ("undisturbed", "disturbed")]
        for folder in folders:
            folder.mkdir()
        env = {**os.environ, "PATH": path}
        reference = Workspace.make(folders[0], env)
        reference.snakemake(*TINY, "all")
        record = disturb(
            reference.root, folders[1], env, seconds=options.seconds, seed=options.seed
        )
    text = json.dumps(record, indent=2, sort_keys=True)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
