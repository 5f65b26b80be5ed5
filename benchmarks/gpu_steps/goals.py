"""What the figures are held against; a goal without its figures says ``not measured``."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.gpu_steps.record import Record

RUNS = ("avsiam_base", "avsiam_large", "cav_mae_base")


class Goal(NamedTuple):
    """A quantity, where it should lie, and how it follows from the record."""

    text: str
    bound: float
    is_most: bool  # else at least
    measure: Callable[[Record], float | None]


def _figure(record: Record, step: str, key: str) -> float | None:
    return record.result(step).get(key)


def _ratio(step: str, reference: str, key: str) -> Callable[[Record], float | None]:
    def measure(record: Record) -> float | None:
        if _figure(record, step, "batch_size") != _figure(record, reference, "batch_size"):
            return None  # one of them did not fit
        ours, theirs = _figure(record, step, key), _figure(record, reference, key)
        return ours / theirs if ours and theirs else None

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


def verdicts(record: Record) -> list[str]:
    """One line per goal."""
    lines = []
    for goal in GOALS:
        value = goal.measure(record)
        wanted = f"goal {'at most' if goal.is_most else 'at least'} {goal.bound:g}"
        if value is None:
            lines.append(f"{goal.text}: not measured, {wanted}")
            continue
        if record.header["quick"]:
            lines.append(
                f"{goal.text}: {value:.3g} in a rehearsal, which measures nothing, {wanted}"
            )
            continue
        is_met = value <= goal.bound if goal.is_most else value >= goal.bound
        lines.append(f"{goal.text}: {value:.3g}, {wanted}: {'met' if is_met else 'missed'}")
    return lines
