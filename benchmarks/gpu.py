"""Everything that needs a GPU, in one command of nine minutes; or its rehearsal on a CPU.

    python benchmarks/gpu.py --out gpu.json                          # on one H100-class card
    python benchmarks/gpu.py --out gpu.json --device cpu --quick     # tiny networks, two minutes

Steps run in order of importance (``gpu_steps/plan.py``); each is printed and written to the JSON as
soon as it is done, with the device's name, driver, torch, commit, date and command in its head. The
command ends within ``--seconds``; called again, it does what is missing. A step that fails is
recorded with its error and the next one runs. It exits with 1 where a check disagrees: outputs and
gradients, a resume, one rank, the tests marked gpu. Needs torch, torchvision, timm, numpy, pydantic
and PyYAML alone.
"""

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_steps.goals import broken_checks, verdicts  # noqa: E402
from benchmarks.gpu_steps.networks import RUNS, count_flops  # noqa: E402
from benchmarks.gpu_steps.plan import Step, steps  # noqa: E402
from benchmarks.gpu_steps.record import Record, describe  # noqa: E402
from benchmarks.gpu_steps.setting import Setting  # noqa: E402
from pipeline_src.train.memory import keep_freed_memory  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "gpu.json"
SECONDS = 515.0  # with the start of Python and a last step, nine minutes
PATIENCE = 3.0  # times the expected seconds, after which a step is given up
SHOWN = 160  # characters of a step's figures on the screen


class StepTimeout(Exception):  # noqa: N818
    """A step took far longer than it may."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``StepTimeout`` in here after ``seconds``."""

    def expire(number: int, frame: object) -> NoReturn:
        raise StepTimeout(f"given up after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def take(step: Step, setting: Setting, left: float) -> None:
    """Run a step and keep its figures, or its error."""
    setting.record.begun(step.name)
    limit = left if setting.quick else min(left, PATIENCE * step.seconds + 20)
    started = time.perf_counter()
    try:
        with time_limit(limit):
            outcome: dict[str, Any] = {"result": step.run(setting)}
    except Exception as error:
        traceback.print_exc()
        outcome = {"error": f"{type(error).__name__}: {error}"[:2000]}
        setting.free()
    outcome["seconds"] = round(time.perf_counter() - started, 2)
    setting.record.write(step.name, outcome, goals=verdicts(setting.record))
    shown = json.dumps(outcome.get("result", outcome.get("error")), default=str)
    print(f"{step.name} ({outcome['seconds']:.1f} s): {shown[:SHOWN]}", flush=True)


def due(record: Record, quick: bool) -> list[Step]:
    """What is missing, in order; what has failed before comes last."""
    wanted = [step for step in steps() if step.is_quick or not quick]
    missing = [step for step in wanted if record.is_due(step.name)]
    return sorted(missing, key=lambda step: step.name in record.steps)


def run(setting: Setting, deadline: float) -> None:
    """Take every step that still fits; begin anew where a fault took the device away."""
    for step in due(setting.record, setting.quick):
        left = deadline - time.monotonic()
        if left < (1 if setting.quick else step.seconds):
            print(f"{step.name}: left out, {left:.0f} of about {step.seconds:g} s left", flush=True)
            continue
        take(step, setting, left)
        if not setting.is_alive():
            print("the device no longer answers this process: it starts anew", flush=True)
            again = [*sys.argv, "--seconds", str(deadline - time.monotonic())]
            os.execv(sys.executable, [sys.executable, *again])


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, in nine minutes.")
    add = parser.add_argument
    add("--out", type=Path, default=OUTPUT, help="JSON file; what it holds is not done again")
    add("--seconds", type=float, default=SECONDS, help="the command ends within them")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--quick", action="store_true", help="a rehearsal: tiny networks, one repeat")
    add("--commit", default="", help="of this code, where git cannot tell")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here; --device cpu --quick rehearses the command without one")
    if options.device == "cpu" and not options.quick:
        parser.error("--device cpu needs --quick: at full size it would take hours")
    return options


def main() -> int:
    """Measure what is missing, then print checks and goals; 1 where a check is broken."""
    deadline = time.monotonic()
    options = parse_options()
    deadline += options.seconds
    keep_freed_memory()
    if options.quick:
        torch.set_num_threads(1)  # several wait for each other in networks as small as these
    device = torch.device(options.device)
    header = describe(device, quick=options.quick, commit=options.commit)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = Record.begin(options.out, header)
    print(", ".join(str(header[k]) for k in ("device", "driver", "torch", "git_commit")))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        timed = " ".join(step.name for step in due(record, options.quick))
        names = [name for name in RUNS if name in timed]
        flops = {name: pool.submit(count_flops, name, options.quick) for name in names}
        setting = Setting(device, options.quick, record, flops)
        run(setting, deadline)
        pool.shutdown(wait=False, cancel_futures=True)
    print("\n".join(verdicts(record)))
    return 1 if broken_checks(record) else 0


if __name__ == "__main__":
    sys.exit(main())
