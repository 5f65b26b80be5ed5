"""Drawings as small inline SVGs that take font and colours from the page.

No pyplot: a ``Figure`` of its own needs no display and no global state.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from pipeline_src.report.blocks import Chart, Hover, HoverSeries, Sheet
from pipeline_src.report.colours import RULE_COLOUR, TEXT_COLOUR, css_colours
from pipeline_src.report.load import plain

POINTS_PER_INCH = 72  # of a drawing's coordinates
PADDING_INCHES = 0.04
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of classes are text, whatever stands in them
    "axes.formatter.useoffset": False,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": TEXT_COLOUR,
    "axes.labelcolor": TEXT_COLOUR,
    "xtick.labelcolor": TEXT_COLOUR,
    "ytick.labelcolor": TEXT_COLOUR,
    "xtick.color": RULE_COLOUR,
    "ytick.color": RULE_COLOUR,
    "axes.edgecolor": RULE_COLOUR,
    "grid.color": RULE_COLOUR,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
}
LABEL_LENGTH = 26
NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "columnspacing": 1.2}


def draw_chart(
    paint: Callable[[Axes], None],
    *,
    title: str,
    alt: str,
    caption: str = "",
    hover: Sequence[HoverSeries] = (),
    texts: Sequence[tuple[str, str]] = (),
    sheet: Sheet | None = None,
    width_inches: float = 4.3,
    height_inches: float = 2.9,
) -> Chart:
    """Run ``paint`` on one pair of axes and keep the result as an inline SVG.

    Args:
        title: heading above the chart; not drawn.
        alt: sentence that says what the chart shows, for screen readers.
        hover, texts, sheet: what a pointer finds there, in the data's own coordinates.
    """
    style: Any = STYLE | {"svg.hashsalt": title + alt}  # its type lists every rc key
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width_inches, height_inches), dpi=POINTS_PER_INCH)
        axes = figure.add_subplot()
        paint(axes)
        renderer: Any = FigureCanvasAgg(figure).get_renderer()
        box = figure.get_tightbbox(renderer).padded(PADDING_INCHES)
        stream = io.StringIO()
        figure.savefig(
            stream, format="svg", transparent=True, bbox_inches=box, metadata=NO_METADATA
        )
    found = Hover(_scale(axes, box), hover, axes.get_xlabel(), texts, sheet) if hover else None
    return Chart(title, slim_svg(stream.getvalue()), alt, caption, found)


def _scale(axes: Axes, box: Bbox) -> tuple[float, float, float, float]:
    """Return (x0, dx, y0, dy): data (x, y) is drawn at (x0 + dx * x, y0 + dy * y)."""
    (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (1, 1)])
    left, top = POINTS_PER_INCH * box.x0, POINTS_PER_INCH * box.y1
    return x0 - left, x1 - x0, top - y0, y0 - y1


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
    return svg.replace("<svg", f'<svg aria-hidden="true" style="--natural:{natural_px}px"', 1)


def _slim_tag(tag: str, referenced: set[str]) -> str:
    """Strip a tag of names that nothing refers to; shorten numbers, take the page's colours."""
    tag = re.sub(r' (?:xmlns|xmlns:xlink|version)="[^"]*"', "", tag).replace("xlink:href", "href")
    tag = re.sub(
        r' id="([^"]*)"', lambda found: found.group(0) * (found.group(1) in referenced), tag
    )
    tag = re.sub(r"-?\d+\.\d{3,}(?![\w.])", lambda found: f"{float(found.group(0)):.2f}", tag)
    tag = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 var(--sans)", tag)
    return re.sub(r"\n\s*", "\n", css_colours(tag))


def shorten(text: str) -> str:
    """Shorten a label to fit beside an axis; a legend would leave out one that begins with _."""
    text = plain(text)
    text = f"\u200b{text}" if text.startswith("_") else text
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "\u2026"
