"""Charts as small inline SVGs that take font and text colour from the page.

No pyplot: a ``Figure`` of its own needs no display and no global state. Colours that must follow
the light or dark theme are drawn as sentinels and replaced by CSS afterwards.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline_src.evaluate.records import Estimate
from pipeline_src.report.blocks import MODALITY_LABELS, Chart
from pipeline_src.report.load import plain

TEXT_SENTINEL = "#010203"
RULE_SENTINEL = "#040506"
MODALITY_COLOURS = {"audio": "#3d84c6", "video": "#dd8135", "audio_video": "#2f9e74"}
NEUTRAL_COLOUR = "#8b919a"
LOST_COLOURS = ("#d1495b", "#e09f3e", "#9b5de5", "#5c7cfa", "#b08968", "#f15bb5", "#6c757d")
CLASS_COLOURS = (
    "#3d84c6", "#dd8135", "#2f9e74", "#cf4a5c", "#8e6bbf",
    "#9a6a52", "#d873b5", "#7f8791", "#b3ac2c", "#2bb0c0",
)  # fmt: skip
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of classes are text, whatever stands in them
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": TEXT_SENTINEL,
    "axes.labelcolor": TEXT_SENTINEL,
    "xtick.labelcolor": TEXT_SENTINEL,
    "ytick.labelcolor": TEXT_SENTINEL,
    "xtick.color": RULE_SENTINEL,
    "ytick.color": RULE_SENTINEL,
    "axes.edgecolor": RULE_SENTINEL,
    "grid.color": RULE_SENTINEL,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
}
LABEL_LENGTH = 26
NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def draw_chart(
    paint: Callable[[Axes], None],
    *,
    title: str,
    alt: str,
    caption: str = "",
    width_inches: float = 4.3,
    height_inches: float = 2.9,
) -> Chart:
    """Run ``paint`` on one pair of axes and keep the result as an inline SVG.

    Args:
        title: heading above the chart; not drawn.
        alt: sentence that says what the chart shows, for screen readers.
    """
    style: Any = STYLE | {"svg.hashsalt": title + alt}  # its type lists every rc key
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width_inches, height_inches))
        paint(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(
            stream,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            pad_inches=0.04,
            metadata=NO_METADATA,
        )
    return Chart(title, slim_svg(stream.getvalue()), alt, caption)


def slim_svg(svg: str) -> str:
    """Make matplotlib's SVG inline: no prolog, no fixed size, short numbers, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    width = re.search(r' width="([\d.]+)pt"', svg)
    natural_px = round(float(width.group(1)) * 4 / 3) if width else 640
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    parts = re.split(r"(<[^>]*>)", svg)  # tags at odd places, names and other text between
    referenced = {name for tag in parts[1::2] for name in re.findall(r"#([\w.-]+)", tag)}
    parts[1::2] = [_slim_tag(tag, referenced) for tag in parts[1::2]]
    parts[::2] = ["\n" if text.isspace() else text for text in parts[::2]]
    svg = "".join(parts)
    return svg.replace("<svg", f'<svg aria-hidden="true" style="max-width:{natural_px}px"', 1)


def _slim_tag(tag: str, referenced: set[str]) -> str:
    """Strip a tag of names that nothing refers to; shorten numbers, take the page's colours."""
    tag = re.sub(r' (?:xmlns|xmlns:xlink|version)="[^"]*"', "", tag).replace("xlink:href", "href")
    tag = re.sub(
        r' id="([^"]*)"', lambda found: found.group(0) * (found.group(1) in referenced), tag
    )
    tag = re.sub(r"-?\d+\.\d{3,}(?![\w.])", lambda found: f"{float(found.group(0)):.2f}", tag)
    tag = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 var(--sans)", tag)
    tag = tag.replace(TEXT_SENTINEL, "currentColor").replace(RULE_SENTINEL, "var(--rule)")
    return re.sub(r"\n\s*", "\n", tag)


def shorten(text: str) -> str:
    """Shorten a label to fit beside an axis; a legend would leave out one that begins with _."""
    text = plain(text)
    text = f"\u200b{text}" if text.startswith("_") else text
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "\u2026"


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
    name: SeriesStyle(label, MODALITY_COLOURS[name]) for name, label in MODALITY_LABELS.items()
}


def interval_chart(
    points: Sequence[IntervalPoint],
    styles: Mapping[str, SeriesStyle],
    *,
    title: str,
    axis_label: str,
) -> Chart:
    """Draw dots with 95 % intervals in per cent; a row per ``row``, a colour per ``series``."""
    rows = list(dict.fromkeys(point.row for point in points))
    series = [name for name in styles if any(point.series == name for point in points)]
    offsets = np.linspace(-0.24, 0.24, len(series)) if len(series) > 1 else np.zeros(1)

    def paint(axes: Axes) -> None:
        for name, offset in zip(series, offsets, strict=True):
            chosen = [point for point in points if point.series == name]
            _paint_points(axes, chosen, rows, styles[name], offset)
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

    alt = "; ".join(_point_alt(point, styles) for point in points)
    height = 1.0 + len(rows) * max(0.34, 0.2 * len(series))
    return draw_chart(
        paint,
        title=title,
        alt=f"{axis_label}. {alt}",
        width_inches=5.8,
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
    value, low, high = point.interval.value, point.interval.low, point.interval.high
    if value is None:
        return f"{point.row}, {styles[point.series].label}: undefined"
    bounds = ""
    if low is not None and high is not None:
        bounds = f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{point.row}, {styles[point.series].label}: {100 * value:.1f}{bounds}"


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


def line_chart(
    curves: Mapping[Line, Curve],
    *,
    title: str,
    name: str,
    marker: str | None = None,
    axis_label: str = "epoch",
) -> Chart:
    def paint(axes: Axes) -> None:
        for line, (epochs, values) in curves.items():
            shape = marker or ("o" if len(epochs) == 1 else None)
            axes.plot(epochs, values, color=line.colour, label=line.label, marker=shape,
                      markersize=3.5)  # fmt: skip
        axes.set_xlabel(axis_label)
        axes.grid(axis="y")
        axes.margins(x=0.02)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1.2,
            handletextpad=0.5, borderaxespad=0.2, columnspacing=1.2,
        )  # fmt: skip

    ends = "; ".join(
        f"{line.label} from {values[0]:.3g} to {values[-1]:.3g}"
        for line, (_, values) in curves.items()
    )
    return draw_chart(paint, title=title, alt=f"{name}, {title}: {ends}", height_inches=2.6)
