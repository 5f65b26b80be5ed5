"""How two OpenMP threads wait for each other, and what that costs where another process is busy.

A step of the demo is thousands of short parallel regions. A thread that has done its share spins
for a while, then sleeps; while it spins it holds a core that the other thread may be waiting for.
Each way of waiting is one process that trains for some seconds at a time, in turn with the others,
alone and beside a process that takes one core:

    python benchmarks/threads.py                      # on a quiet machine of two cores
    taskset -c 0,1 python benchmarks/threads.py       # of more

Wanted: 90 % of the speed of the default alone, 60 % of one thread's beside a busy process.
Prints the table and writes benchmarks/results/threads.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

OUTPUT = ROOT / "benchmarks" / "results" / "threads.json"
WANTED_QUIET, WANTED_BUSY = 0.9, 0.6
ONE, DEFAULT = "one thread", "default"
SPINS = (300, 1_000, 3_000, 10_000, 100_000)
WAYS = {
    ONE: {"OMP_NUM_THREADS": "1"},
    DEFAULT: {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "OMP_PROC_BIND=true": {"OMP_PROC_BIND": "true"},
    "OMP_PROC_BIND=true OMP_WAIT_POLICY=PASSIVE": {
        "OMP_PROC_BIND": "true",
        "OMP_WAIT_POLICY": "PASSIVE",
    },
    **{f"GOMP_SPINCOUNT={spin}": {"GOMP_SPINCOUNT": str(spin)} for spin in SPINS},
}
SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_SPINCOUNT")
BUSY = "while True: pass"


def train_when_asked(stage: str) -> None:
    """Read seconds from stdin, train for so long, print clips per second; until stdin ends."""
    from benchmarks.precision import Steps
    from pipeline_src.config import read_config, resolve_run
    from pipeline_src.train.memory import keep_freed_memory

    keep_freed_memory()
    config = read_config([ROOT / "config/config.yaml"])
    run = resolve_run(config, config.run_names[0])
    steps = Steps(config, run.model, getattr(run, stage))
    for _ in range(3):
        steps.take(amp=False)
    print("ready", flush=True)
    for line in sys.stdin:
        started, num_clips = time.perf_counter(), 0
        while (seconds := time.perf_counter() - started) < float(line):
            steps.take(amp=False)
            num_clips += steps.recipe.batch_size
        print(num_clips / seconds, flush=True)


class Trainer:
    """A process that trains when asked."""

    def __init__(self, way: str, stage: str) -> None:
        env = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--train", stage],
            env=env | WAYS[way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._asks, self._answers = self._process.stdin, self._process.stdout
        assert self._answers.readline() == "ready\n"

    def clips_per_second(self, seconds: float) -> float:
        """Train for so long."""
        self._asks.write(f"{seconds}\n")
        self._asks.flush()
        return float(self._answers.readline())

    def close(self) -> None:
        """End it."""
        self._asks.close()
        self._process.wait()


def measure(stage: str, *, seconds: float, rounds: int, pause: float) -> dict[str, dict]:
    """Clips per second of every way, alone and beside a busy process, round by round."""
    found: dict[str, dict[str, list[float]]] = {way: {"alone": [], "busy": []} for way in WAYS}
    with ExitStack() as stack:
        trainers = {}
        for way in WAYS:
            trainers[way] = Trainer(way, stage)
            stack.callback(trainers[way].close)
        for _ in range(rounds):
            for way, trainer in trainers.items():
                time.sleep(pause)
                found[way]["alone"].append(trainer.clips_per_second(seconds))
                other = subprocess.Popen([sys.executable, "-c", BUSY])
                try:
                    found[way]["busy"].append(trainer.clips_per_second(seconds))
                finally:
                    other.kill()
                    other.wait()
    return {
        way: {kind: round(median(values), 1) for kind, values in taken.items()}
        for way, taken in found.items()
    }


def judge(speeds: dict[str, dict[str, float]]) -> dict[str, dict[str, float | bool]]:
    """Each way against the default alone and against one thread beside a busy process."""
    quiet, single = speeds[DEFAULT]["alone"], speeds[ONE]["busy"]
    return {
        way: {
            **taken,
            "of_default_alone": round(taken["alone"] / quiet, 2),
            "of_one_thread_busy": round(taken["busy"] / single, 2),
            "holds": taken["alone"] >= WANTED_QUIET * quiet
            and taken["busy"] >= WANTED_BUSY * single,
        }
        for way, taken in speeds.items()
    }


def main() -> None:
    """Measure both recipes of the demo, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0, help="seconds between two measurements")
    parser.add_argument("--stages", nargs="+", default=["pretrain", "finetune"])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train_when_asked(options.train)
        return
    from pipeline_src.runs.provenance import git_commit, machine
    from pipeline_src.system.atomic import write_json

    load = os.getloadavg()[0]
    result = {
        "machine": machine(),
        "load_before": round(load, 2),
        "git_commit": git_commit(),
        "clips_per_second": {
            stage: judge(
                measure(stage, seconds=options.seconds, rounds=options.rounds, pause=options.pause)
            )
            for stage in options.stages
        },
    }
    write_json(options.output, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
