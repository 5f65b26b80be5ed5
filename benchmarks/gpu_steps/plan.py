"""Every step of the command in order of importance, with what it may take on an H100-class card."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu_steps import agreement, attention, ceilings, components, loop, ranks, throughput
from benchmarks.gpu_steps.goals import MARKED_TESTS
from benchmarks.gpu_steps.setting import Setting
from benchmarks.variants import REFERENCE, VARIANTS
from pipeline_src.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
FIRST = "reconstruction"
PARTS = (FIRST, *(name for name in VARIANTS if name not in (REFERENCE, FIRST)))


class Step(NamedTuple):
    """A measurement.

    Args:
        seconds: what it is expected to take; it is not begun with less left, and is given up after
            three times as long.
        is_quick: belongs to the rehearsal.
    """

    name: str
    seconds: float
    run: Callable[[Setting], Any]
    is_quick: bool = True


def steps() -> list[Step]:
    """Correctness and the main figures first.

    The seconds are estimates until a record gives them: counted operations at 300 TFLOP/s, and what
    it takes to build a network (2 to 4 s) or to compile its blocks (30 to 45 s). Their sum fits the
    command's budget.
    """
    return [
        Step("ceilings", 8, ceilings.measure),
        *(Step(f"agreement {m}", 5, partial(agreement.method, name=m)) for m in METHODS),
        Step("agreement packed", 5, agreement.packing),
        Step(MARKED_TESTS, 30, marked_tests),
        _timed("avsiam_base", "packed", 6),
        _timed("avsiam_base", "group by group", 6, is_quick=False),
        _timed("avsiam_base", "released order", 10, beside=("avsiam_base", "packed")),
        Step("loop waits", 5, loop.waits),
        Step("loop fed", 16, loop.fed),
        Step("loop profile", 6, loop.where_time_goes),
        _timed("cav_mae_base", "eager", 5, beside=("avsiam_base", "packed")),
        Step("resume", 4, ranks.resume),
        *(Step(f"one rank {p}", 6, partial(ranks.one_rank, parallel=p)) for p in ranks.PREPARE),
        _timed("avsiam_large", "packed", 10, is_quick=False),
        _timed(
            "avsiam_large_separate", "packed", 12, is_quick=False, beside=("avsiam_large", "packed")
        ),
        *(
            Step(f"component {p}", 6, partial(components.measure, name=p), p == FIRST)
            for p in PARTS
        ),
        *(
            Step(f"attention {k}", 30 if k == "flex" else 3, partial(attention.measure, kind=k))
            for k in attention.KINDS
        ),
        _largest("avsiam_base", "packed"),
        _largest("cav_mae_base", "eager", is_quick=False),
        _largest("avsiam_large", "packed", is_quick=False),
        _timed("avsiam_large", "group by group", 12, is_quick=False),
        _timed("avsiam_large", "checkpointed", 12, is_quick=False),
        _timed(
            "avsiam_base_fixed_25", "eager", 6, is_quick=False, beside=("avsiam_base", "packed")
        ),
        _timed("avsiam_base", "compiled", 40, is_quick=False),
        _timed("cav_mae_base", "compiled", 35, is_quick=False),
        _timed("avsiam_large", "compiled", 45, is_quick=False),
        _timed("cav_mae_base", "CUDA graphs", 40, is_quick=False),
    ]


def _timed(
    name: str,
    way: str,
    seconds: float,
    is_quick: bool = True,
    beside: throughput.Run | None = None,
) -> Step:
    run = partial(throughput.measure, name=name, way=way, beside=beside)
    return Step(f"steps {name}, {way}", seconds, run, is_quick)


def _largest(name: str, way: str, is_quick: bool = True) -> Step:
    run = partial(throughput.largest, name=name, way=way)
    return Step(f"largest {name}, {way}", 15, run, is_quick)


def marked_tests(setting: Setting) -> dict[str, Any]:
    """Run the tests that need a GPU, where pytest and what they import are there."""
    if not setting.on_gpu:
        return {"skipped": "no GPU here"}
    if importlib.util.find_spec("pytest") is None:
        return {"skipped": "pytest is not installed here"}
    files = [p for p in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in p.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    setting.free()
    done = subprocess.run(
        [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {"agrees": done.returncode == 0, "output": done.stdout[-3000:] + done.stderr[-1000:]}
