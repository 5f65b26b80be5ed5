"""Dots with 95 % whiskers: figures of several runs or states side by side."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from pipeline_src.evaluate.records import Estimate
from pipeline_src.report.blocks import MODALITY_LABELS, Chart
from pipeline_src.report.drawing import MODALITY_COLOURS, draw_chart, shorten


class Whisker(NamedTuple):
    """One figure of a whisker chart."""

    row: str
    series: str
    interval: Estimate


class Look(NamedTuple):
    """How a series is drawn."""

    label: str
    colour: str
    is_hollow: bool = False


MODALITY_LOOKS = {
    name: Look(label, MODALITY_COLOURS[name]) for name, label in MODALITY_LABELS.items()
}


def whisker_chart(
    whiskers: Sequence[Whisker],
    looks: Mapping[str, Look],
    *,
    title: str,
    axis_label: str,
) -> Chart:
    """Dots with 95 % whiskers in per cent; one row per ``row``, one colour per ``series``."""
    rows = list(dict.fromkeys(whisker.row for whisker in whiskers))
    series = [name for name in looks if any(whisker.series == name for whisker in whiskers)]
    offsets = np.linspace(-0.24, 0.24, len(series)) if len(series) > 1 else np.zeros(1)

    def paint(axes: Axes) -> None:
        for name, offset in zip(series, offsets, strict=True):
            chosen = [whisker for whisker in whiskers if whisker.series == name]
            _paint_whiskers(axes, chosen, rows, looks[name], offset)
        axes.set_yticks(range(len(rows)), [shorten(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(axis_label)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), handletextpad=0.3,
            borderaxespad=0.2, columnspacing=1.2,
        )  # fmt: skip

    alt = "; ".join(_whisker_alt(whisker, looks) for whisker in whiskers)
    height = 1.0 + len(rows) * max(0.34, 0.2 * len(series))
    return draw_chart(
        paint,
        title=title,
        alt=f"{axis_label}. {alt}",
        width_inches=5.8,
        height_inches=height,
    )


def _paint_whiskers(
    axes: Axes, whiskers: Sequence[Whisker], rows: Sequence[str], look: Look, offset: float
) -> None:
    for index, whisker in enumerate(whiskers):
        if whisker.interval.value is None:
            continue
        y = rows.index(whisker.row) + offset
        if whisker.interval.low is not None and whisker.interval.high is not None:
            ends = [100 * whisker.interval.low, 100 * whisker.interval.high]
            axes.plot(ends, [y, y], color=look.colour, solid_capstyle="round", linewidth=2)
        axes.plot(
            100 * whisker.interval.value, y, "o", markersize=6, color=look.colour,
            markerfacecolor="none" if look.is_hollow else look.colour,
            linestyle="none", label=look.label if index == 0 else None,
        )  # fmt: skip


def _whisker_alt(whisker: Whisker, looks: Mapping[str, Look]) -> str:
    value, low, high = whisker.interval.value, whisker.interval.low, whisker.interval.high
    if value is None:
        return f"{whisker.row}, {looks[whisker.series].label}: undefined"
    bounds = ""
    if low is not None and high is not None:
        bounds = f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{whisker.row}, {looks[whisker.series].label}: {100 * value:.1f}{bounds}"
