"""Accuracy against what it cost, of the runs that ``benchmarks.kept_runs`` keeps.

    python -m benchmarks.kept_curves docs/efficiency.svg

Left: each arm's difference to the first in test accuracy from audio, with its paired interval, in
the order of the operations of pre-training that it saves. Then accuracy on validation clips while
fine-tuning of the arms with most seeds, mean and range over these, over all operations and over all
optimiser steps, pre-training included.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.kept_runs import (
    FIRST,
    KEPT,
    MODALITY,
    Record,
    accuracy,
    group,
    mean_pair,
    pretraining_flops,
    read_kept,
)
from pipeline_src.report.colours import PALETTES

UNITS = {"flops": (1e12, "TFLOP"), "steps": (1e3, "thousand optimiser steps")}
COLUMN = 1  # of a row of validation, after the step: the only head
# Its type lists every rc key.
STYLE: Any = {
    "svg.hashsalt": "curves",
    "svg.fonttype": "none",
    "axes.grid": True,
    "grid.alpha": 0.4,
}
Arms = Mapping[str, Mapping[str, Record]]


def spent(record: Record, unit: str) -> NDArray[np.float64]:
    """Return what was spent at each validation of a run, pre-training included, (V,)."""
    before = record["cost"].get("pretrain", {}).get(unit, 0)
    tuning = record["cost"]["finetune"]
    steps = np.array([row[0] for row in record["validation"]])
    return before + tuning[unit] * steps / tuning["steps"]


def draw_curves(axes: Axes, arms: Arms, unit: str) -> None:
    """Draw accuracy on validation clips over what was spent: mean and range over seeds.

    Runs that were validated less often than others of their arm are left out.
    """
    scale, label = UNITS[unit]
    for colour, (name, arm) in zip(cycle(PALETTES["light"]), arms.items(), strict=False):
        most = max(len(one["validation"]) for one in arm.values())
        runs = [one for one in arm.values() if len(one["validation"]) == most]
        x = np.mean([spent(run, unit) for run in runs], axis=0) / scale
        scores = np.array([[row[COLUMN] for row in run["validation"]] for run in runs])
        axes.plot(x, scores.mean(axis=0), color=colour, marker="o", markersize=3, label=name)
        axes.fill_between(x, scores.min(axis=0), scores.max(axis=0), color=colour, alpha=0.15)
    axes.set_xlabel(f"{label}, pre-training included")
    axes.set_ylabel(f"validation accuracy, {MODALITY}")


def draw_differences(axes: Axes, arms: Arms, colours: Mapping[str, str]) -> None:
    """Draw a row an arm: its paired difference to the first, those that save least on top."""
    base = pretraining_flops(arms[FIRST].values())
    measure = partial(accuracy, modality=MODALITY)
    pairs = {name: mean_pair(arm, arms, measure) for name, arm in arms.items()}
    found = {name: pair for name, pair in pairs.items() if pair}
    saved = {name: 1 - pretraining_flops(arms[name].values()) / base for name in found}
    names = sorted(found, key=lambda name: saved[name])
    for place, name in enumerate(names):
        value, low, high = np.array([found[name][key] for key in ("value", "low", "high")], float)
        colour = colours.get(name, "0.35")
        bars = [[value - low], [high - value]]
        axes.errorbar(value, place, xerr=bars, fmt="o", color=colour, capsize=3, markersize=4)
    labels = [f"{name}  {round(100 * saved[name])} %" for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize="small")
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_xlabel(f"accuracy over {FIRST}, {MODALITY} (operations saved: at the left)")


def draw(records: Sequence[Record], path: Path) -> None:
    """Write the picture, in the format of its suffix."""
    arms = group(records)
    most = max(map(len, arms.values()))
    shown = {name: arm for name, arm in arms.items() if len(arm) == most}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(15, 5.4), layout="constrained")
        FigureCanvasAgg(figure)
        left, middle, right = figure.subplots(1, 3)
        draw_differences(left, arms, dict(zip(shown, PALETTES["light"], strict=False)))
        draw_curves(middle, shown, "flops")
        draw_curves(right, shown, "steps")
        handles, labels = middle.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--kept", type=Path, default=KEPT)
    options = parser.parse_args()
    draw(read_kept(options.kept), options.picture)


if __name__ == "__main__":
    main()
