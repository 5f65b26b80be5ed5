"""Charts of figures with their intervals, and of curves."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline_src.evaluate.records import Estimate
from pipeline_src.report.blocks import HEAD_LABELS, Chart, HoverSeries
from pipeline_src.report.colours import HEAD_COLOURS, NEUTRAL_COLOUR
from pipeline_src.report.drawing import ABOVE, draw_chart, shorten


class IntervalPoint(NamedTuple):
    """One figure of a point chart."""

    row: str
    series: str
    interval: Estimate


class SeriesStyle(NamedTuple):
    """How a series is drawn."""

    label: str
    colour: str
    is_hollow: bool = False


MODALITY_STYLES = {
    name: SeriesStyle(label, HEAD_COLOURS[name]) for name, label in HEAD_LABELS.items()
}


def interval_chart(
    points: Sequence[IntervalPoint],
    styles: Mapping[str, SeriesStyle],
    *,
    title: str,
    axis_label: str,
    has_zero_line: bool = False,
) -> Chart:
    """Draw dots with 95 % intervals in per cent; a row per ``row``, a colour per ``series``.

    Args:
        has_zero_line: of differences, draws where there is none.
    """
    rows = list(dict.fromkeys(point.row for point in points))
    series = [name for name in styles if any(point.series == name for point in points)]
    offsets = np.linspace(-0.24, 0.24, len(series)) if len(series) > 1 else np.zeros(1)

    def paint(axes: Axes) -> None:
        if has_zero_line:
            axes.axvline(0, color=NEUTRAL_COLOUR, linewidth=1)
        for name, offset in zip(series, offsets, strict=True):
            chosen = [point for point in points if point.series == name]
            _paint_points(axes, chosen, rows, styles[name], offset)
        axes.set_yticks(range(len(rows)), [shorten(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(axis_label)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.legend(**ABOVE, ncols=len(series), handletextpad=0.3)

    alt = "; ".join(_point_alt(point, styles) for point in points)
    drawn = [point for point in points if point.interval.value is not None]
    hover = [
        HoverSeries(
            styles[name].label,
            styles[name].colour,
            [
                (100 * (point.interval.value or 0), rows.index(point.row) + offset, index)
                for index, point in enumerate(drawn)
                if point.series == name
            ],
        )
        for name, offset in zip(series, offsets, strict=True)
    ]
    height = 1.0 + len(rows) * max(0.34, 0.2 * len(series))
    return draw_chart(
        paint,
        title=title,
        alt=f"{axis_label}. {alt}",
        hover=hover,
        texts=[(point.row, _point_text(point)) for point in drawn],
        width_inches=7.2,
        height_inches=height,
    )


def _paint_points(
    axes: Axes,
    points: Sequence[IntervalPoint],
    rows: Sequence[str],
    style: SeriesStyle,
    offset: float,
) -> None:
    for index, point in enumerate(points):
        if point.interval.value is None:
            continue
        y = rows.index(point.row) + offset
        if point.interval.low is not None and point.interval.high is not None:
            ends = [100 * point.interval.low, 100 * point.interval.high]
            axes.plot(ends, [y, y], color=style.colour, solid_capstyle="round", linewidth=2)
        axes.plot(
            100 * point.interval.value, y, "o", markersize=6, color=style.colour,
            markerfacecolor="none" if style.is_hollow else style.colour,
            linestyle="none", label=style.label if index == 0 else None,
        )  # fmt: skip


def _point_alt(point: IntervalPoint, styles: Mapping[str, SeriesStyle]) -> str:
    return f"{point.row}, {styles[point.series].label}: {_point_text(point)}"


def _point_text(point: IntervalPoint) -> str:
    value, low, high = point.interval.value, point.interval.low, point.interval.high
    if value is None:
        return "undefined"
    if low is None or high is None:
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


MAX_POINTS = 240
Row = Mapping[str, Any]


class Line(NamedTuple):
    """One logged quantity of a panel."""

    key: str
    label: str
    colour: str


Curve = tuple[NDArray, NDArray]


def logged_curve(
    rows: Sequence[Row], key: str, scale: float = 1, over: str = "epoch"
) -> Curve | None:
    """Read epochs, or ``over``, and values of a quantity, (P,) each; P is at most MAX_POINTS.

    Long curves are means of equal runs of rows.
    """
    points = [
        (row[over], scale * row[key])
        for row in rows
        if isinstance(row.get(key), int | float) and isinstance(row.get(over), int | float)
    ]
    if not points:
        return None
    array = np.array(points, dtype=np.float64)
    if len(array) > MAX_POINTS:
        array = np.stack([part.mean(axis=0) for part in np.array_split(array, MAX_POINTS)])
    return array[:, 0], array[:, 1]


class Band(NamedTuple):
    """A curve that is a mean of several, and the range of these: (P,) each."""

    x: NDArray
    mean: NDArray
    low: NDArray
    high: NDArray


def mean_curve(curves: Sequence[Curve]) -> Band:
    """Average curves at the places of the first, as far as all of them go."""
    end = min(x[-1] for x, _ in curves)
    places = curves[0][0][curves[0][0] <= end]
    values = np.stack([np.interp(places, x, y) for x, y in curves])
    return Band(places, values.mean(axis=0), values.min(axis=0), values.max(axis=0))


def line_chart(
    curves: Mapping[Line, Curve | Band],
    *,
    title: str,
    name: str,
    marker: str | None = None,
    axis_label: str = "epoch",
) -> Chart:
    """Draw curves over one axis; the range of a band is shaded."""

    def paint(axes: Axes) -> None:
        for line, curve in curves.items():
            x, y = curve[:2]
            shape = marker or ("o" if len(x) == 1 else None)
            axes.plot(x, y, color=line.colour, label=line.label, marker=shape, markersize=3.5)
            if isinstance(curve, Band) and len(x) > 1:
                axes.fill_between(
                    x, curve.low, curve.high, color=line.colour, alpha=0.18, linewidth=0
                )
        axes.set_xlabel(axis_label)
        axes.grid(axis="y")
        axes.margins(x=0.02)
        axes.legend(**ABOVE, ncols=_legend_columns(curves), handlelength=1.2, handletextpad=0.5)

    ends = "; ".join(
        f"{line.label} from {curve[1][0]:.3g} to {curve[1][-1]:.3g}"
        for line, curve in curves.items()
    )
    hover = [
        HoverSeries(line.label, line.colour, list(zip(*curve[:2], strict=True)))
        for line, curve in curves.items()
    ]
    return draw_chart(
        paint, title=title, alt=f"{name}, {title}: {ends}", hover=hover, height_inches=2.6
    )


def _legend_columns(curves: Mapping[Line, Any]) -> int:
    """Return as many columns as names of this length fit in above a chart."""
    longest = max(len(line.label) for line in curves)
    return max(1, min(3, 54 // (longest + 4)))
