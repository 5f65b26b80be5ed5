"""What the figures are held against; a goal without its figures says ``not measured``.

Checks are right or wrong on any device, in a rehearsal too; goals are figures of a GPU.
"""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.gpu_steps.ranks import PREPARE
from benchmarks.gpu_steps.record import Record
from pipeline_src.methods import METHODS

RUNS = ("avsiam_base", "avsiam_large", "cav_mae_base")
MARKED_TESTS = "tests marked gpu"
# Steps whose result says whether it ``agrees``.
CHECKS = (
    *(f"agreement {name}" for name in (*METHODS, "packed")),
    MARKED_TESTS,
    "resume",
    *(f"one rank {parallel}" for parallel in PREPARE),
)
KERNELS = ("varlen", "flex", "nested")
KERNEL_TOLERANCE = 0.05  # of outputs up to 1 in bfloat16


class Goal(NamedTuple):
    """A quantity, where it should lie, and how it follows from the record."""

    text: str
    bound: float
    is_most: bool  # else at least
    measure: Callable[[Record], float | None]


def _figure(record: Record, step: str, key: str) -> float | None:
    return record.result(step).get(key)


def _ratio(step: str, reference: str, key: str) -> Callable[[Record], float | None]:
    """Of a step over one that was measured beside it, at the batch size of the smaller."""

    def measure(record: Record) -> float | None:
        theirs = record.result(reference)
        ours = theirs.get("beside", record.result(step))
        if not (ours.get(key) and theirs.get(key)) or ours["batch_size"] != theirs["batch_size"]:
            return None  # the step was made again after its reference
        return ours[key] / theirs[key]

    return measure


def _best(name: str) -> Callable[[Record], float | None]:
    """Highest utilisation of a network, however it was carried out."""

    def measure(record: Record) -> float | None:
        found = [
            record.result(step).get("utilisation")
            for step in record.steps
            if step.split(",")[0] in (f"steps {name}", f"largest {name}")
        ]
        return max((value for value in found if value), default=None)

    return measure


PACKED, RELEASED = "steps avsiam_base, packed", "steps avsiam_base, released order"
GOALS = (
    *(Goal(f"{name}: utilisation in bfloat16", 0.45, False, _best(name)) for name in RUNS),
    Goal(
        "avsiam_base: speed over the released order of work",
        2.0,
        False,
        _ratio(PACKED, RELEASED, "clips_per_second"),
    ),
    Goal(
        "avsiam_base: speed over cav_mae_base (published 3.35)",
        3.35,
        False,
        _ratio(PACKED, "steps cav_mae_base, eager", "clips_per_second"),
    ),
    Goal(
        "avsiam_large: memory, shared over separate encoders (published .53)",
        0.53,
        True,
        _ratio(
            "steps avsiam_large, packed", "steps avsiam_large_separate, packed", "peak_memory_gb"
        ),
    ),
    Goal(
        "avsiam_base: time over the fixed ratio .25 (published .44)",
        0.44,
        True,
        _ratio(PACKED, "steps avsiam_base_fixed_25, eager", "seconds_per_clip"),
    ),
    Goal(
        "DiffMAViL: wall clock saved against MAViL (published .18; aim .25)",
        0.18,
        False,
        lambda record: _figure(record, "component reconstruction", "wall_saved"),
    ),
    Goal(
        "speed of a step fed by the loader over the step alone",
        0.95,
        False,
        lambda record: _figure(record, "loop fed", "fed_over_alone_speed"),
    ),
    Goal(
        "waits of the host per step",
        0.0,
        True,
        lambda record: _figure(record, "loop waits", "per_step"),
    ),
)


def broken_checks(record: Record) -> list[str]:
    """Name the checks that disagree or ended in an error."""
    return [name for name in CHECKS if _check(record, name) not in ("agrees", "not measured")]


def _check(record: Record, name: str) -> str:
    step = record.steps.get(name, {})
    if "error" in step:
        return f"failed, {step['error']}"
    agrees = record.result(name).get("agrees")
    return "not measured" if agrees is None else "agrees" if agrees else "DISAGREES"


def ranked_kernels(record: Record) -> str:
    """Kernels for packed sequences whose output is right, fastest first, then the others."""
    found = {kernel: record.result(f"attention {kernel}") for kernel in KERNELS}
    slowness: dict[str, float] = {}
    others = []
    for kernel, figures in found.items():
        if not figures:
            others.append(f"{kernel} not measured")
        elif figures["largest_difference"] < KERNEL_TOLERANCE:
            slowness[kernel] = figures["milliseconds"]
        else:
            others.append(f"{kernel} gives another output")
    ranked = sorted(slowness, key=lambda kernel: slowness[kernel])
    return ", ".join([*(f"{kernel} {slowness[kernel]:.3g} ms" for kernel in ranked), *others])


def verdicts(record: Record) -> list[str]:
    """One line per check and goal, and the kernels in order."""
    lines = [f"{name}: {_check(record, name)}" for name in CHECKS]
    rehearsed = " in a rehearsal, which measures nothing" if record.header["quick"] else ""
    lines.append(
        f"attention in packed sequences, fastest first: {ranked_kernels(record)}{rehearsed}"
    )
    for goal in GOALS:
        value = goal.measure(record)
        wanted = f"goal {'at most' if goal.is_most else 'at least'} {goal.bound:g}"
        if value is None:
            lines.append(f"{goal.text}: not measured, {wanted}")
            continue
        if rehearsed:
            lines.append(f"{goal.text}: {value:.3g}{rehearsed}, {wanted}")
            continue
        is_met = value <= goal.bound if goal.is_most else value >= goal.bound
        lines.append(f"{goal.text}: {value:.3g}, {wanted}: {'met' if is_met else 'missed'}")
    return lines
