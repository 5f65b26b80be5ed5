"""Matplotlib figures as small inline SVGs that take font and text colour from the page.

No pyplot: a ``Figure`` of its own needs no display and no global state. Colours that must follow
the light or dark theme are drawn as sentinels and replaced by CSS afterwards.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline_src.report.blocks import Chart
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
    """A tag without names that nothing refers to, with short numbers and the page's colours."""
    tag = re.sub(r' (?:xmlns|xmlns:xlink|version)="[^"]*"', "", tag).replace("xlink:href", "href")
    tag = re.sub(
        r' id="([^"]*)"', lambda found: found.group(0) * (found.group(1) in referenced), tag
    )
    tag = re.sub(r"-?\d+\.\d{3,}(?![\w.])", lambda found: f"{float(found.group(0)):.2f}", tag)
    tag = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 var(--sans)", tag)
    tag = tag.replace(TEXT_SENTINEL, "currentColor").replace(RULE_SENTINEL, "var(--rule)")
    return re.sub(r"\n\s*", "\n", tag)


def shorten(text: str) -> str:
    """A label that fits beside an axis; a legend would leave out one that begins with _."""
    text = plain(text)
    text = f"\u200b{text}" if text.startswith("_") else text
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "\u2026"
