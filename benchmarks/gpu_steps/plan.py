"""Every step of the command in order of importance, with what it may take on an H100-class card."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu_steps import agreement, attention, ceilings, components, loop, ranks, throughput
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
    """Correctness and the main figures first."""
    return [
        Step("ceilings", 8, ceilings.measure),
        *(Step(f"agreement {m}", 8, partial(agreement.method, name=m)) for m in METHODS),
        Step("agreement packed", 6, agreement.packing),
        _timed("avsiam_base", "packed", 15),
        _timed("avsiam_base", "group by group", 12, is_quick=False),
        _timed("avsiam_base", "released order", 20),
        Step("loop waits", 8, loop.waits),
        Step("loop fed", 35, loop.fed),
        _timed("cav_mae_base", "eager", 12),
        Step("resume", 8, ranks.resume),
        *(Step(f"one rank {p}", 8, partial(ranks.one_rank, parallel=p)) for p in ranks.PREPARE),
        _timed("avsiam_large", "packed", 20, is_quick=False),
        _timed("avsiam_large_separate", "packed", 20, is_quick=False),
        *(
            Step(f"component {p}", 14, partial(components.measure, name=p), p == FIRST)
            for p in PARTS
        ),
        Step("loop profile", 12, loop.where_time_goes),
        *(
            Step(f"attention {k}", 60 if k == "flex" else 4, partial(attention.measure, kind=k))
            for k in attention.KINDS
        ),
        _largest("avsiam_base", "packed"),
        _largest("cav_mae_base", "eager", is_quick=False),
        _largest("avsiam_large", "packed", is_quick=False),
        _timed("avsiam_large", "checkpointed", 25, is_quick=False),
        _timed("avsiam_base", "compiled", 60, is_quick=False),
        _timed("cav_mae_base", "compiled", 60, is_quick=False),
        _timed("avsiam_base_fixed_25", "eager", 12, is_quick=False),
        Step("tests marked gpu", 40, marked_tests),
        _timed("cav_mae_base", "CUDA graphs", 80, is_quick=False),
    ]


def _timed(name: str, way: str, seconds: float, is_quick: bool = True) -> Step:
    run = partial(throughput.measure, name=name, way=way)
    return Step(f"steps {name}, {way}", seconds, run, is_quick)


def _largest(name: str, way: str, is_quick: bool = True) -> Step:
    run = partial(throughput.largest, name=name, way=way)
    return Step(f"largest {name}, {way}", 25, run, is_quick)


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
    return {"passed": done.returncode == 0, "output": done.stdout[-3000:] + done.stderr[-1000:]}
