"""What a page is made of: sections of tables, charts, image rows, text and parts to open.

The template knows these types and nothing of metrics; the section builders know no HTML.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from pipeline_src.evaluate.records import Estimate
from pipeline_src.report.colours import css_colours
from pipeline_src.report.load import Problems, plain

MISSING = "\u2013"
MAX_HOVER_CHARS = 80
MAX_DETAILED = 12  # runs that are shown one by one
HEAD_LABELS = {"audio": "audio", "video": "video", "audio_video": "audio + video"}
DIRECTION_LABELS = {"audio_to_video": "audio \u2192 video", "video_to_audio": "video \u2192 audio"}


@dataclass(frozen=True)
class Cell:
    """One table cell.

    Args:
        sub: a second, smaller line, such as an interval.
        tone: "", "muted", "good" or "warn".
        is_number: right-aligned, figures of equal width.
        values: figure and the ends of its interval, as a file of the table gives them.
    """

    text: str
    sub: str = ""
    tone: str = ""
    is_number: bool = False
    is_code: bool = False
    rowspan: int = 1
    values: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under a head; a cell with rowspan stands in its first row only."""

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class HoverSeries(NamedTuple):
    """Points (x, y) of one name and colour, or (x, y, index of its text)."""

    name: str
    colour: str
    points: Sequence[tuple[float, ...]]


class Sheet(NamedTuple):
    """Small pictures in one image, row by row; where there is none, the place is empty."""

    data_uri: str
    columns: int
    side: int


class Hover(NamedTuple):
    """What a pointer finds in a drawing.

    Args:
        scale: (x0, dx, y0, dy); a point is drawn at (x0 + dx * x, y0 + dy * y).
        x_label: what x is, of curves.
        texts: title and second line of each thing; none where the points are of curves, whose
            values are told.
        sheet: a picture of each thing.
    """

    scale: tuple[float, float, float, float]
    series: Sequence[HoverSeries]
    x_label: str = ""
    texts: Sequence[tuple[str, str]] = ()
    sheet: Sheet | None = None

    def values(self) -> dict[str, Any]:
        """Return it as the page's script reads it, numbers short."""
        series = [
            {
                "name": plain(one.name),
                "colour": css_colours(one.colour),
                "points": [[float(f"{value:.5g}") for value in point] for point in one.points],
            }
            for one in self.series
        ]
        found: dict[str, Any] = {
            "scale": [float(f"{value:.7g}") for value in self.scale],
            "x_label": self.x_label,
            "series": series,
        }
        if self.texts:
            found["texts"] = [
                [plain(line)[:MAX_HOVER_CHARS] for line in text] for text in self.texts
            ]
        if self.sheet:
            found["sheet"] = self.sheet._asdict()
        return found


@dataclass(frozen=True)
class Chart:
    """An inline SVG with the sentence that replaces it for who cannot see it."""

    title: str
    svg: str
    alt: str
    caption: str = ""
    hover: Hover | None = None


@dataclass(frozen=True)
class Charts:
    """Charts side by side as far as the window allows; ``is_wide`` gives each a full row."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]
    is_wide: bool = False


@dataclass(frozen=True)
class Image:
    """A picture as a data URI."""

    title: str
    data_uri: str
    alt: str
    is_pixelated: bool = False


@dataclass(frozen=True)
class ImageRow:
    """Pictures that belong to one clip, in one row."""

    title: str
    images: Sequence[Image]


@dataclass(frozen=True)
class ImageRows:
    """Pictures of several clips."""

    kind: ClassVar[str] = "image_rows"
    caption: str
    rows: Sequence[ImageRow]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Code:
    """Preformatted text."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Collapsible:
    """A part that the reader opens."""

    kind: ClassVar[str] = "collapsible"
    title: str
    blocks: Sequence["Block"]
    is_open: bool = False


Block = Table | Charts | ImageRows | Text | Code | Collapsible


@dataclass
class PageSection:
    """One heading of the page, what stands below it, and what could not be shown."""

    anchor: str
    title: str
    lead: str
    blocks: list[Block] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)


@dataclass(frozen=True)
class Card:
    """A key figure at the top of the page."""

    label: str
    value: str
    sub: str
    note: str


class CardGroup(NamedTuple):
    """Key figures of one run, and why it is this one."""

    choice: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Overview:
    """The top of the page.

    Args:
        origin: names and texts: date, commit, data.
        grids: all runs by input, where there are several.
    """

    origin: Sequence[tuple[str, str]] = ()
    summary: Sequence[str] = ()
    card_groups: Sequence[CardGroup] = ()
    grids: Sequence[Table] = ()


def left_out_text(count: int, file: str) -> str:
    """Say that only the first of many runs are shown one by one."""
    return f"One by one the first {MAX_DETAILED} of {count} are shown; {file} of each has the rest."


def number_text(value: float | None, *, scale: float = 1, digits: int = 1) -> str:
    """Write ``0.9641`` as ``96.4`` at scale 100; an undefined value as a dash."""
    return MISSING if value is None else f"{value * scale:.{digits}f}"


def bounds_text(interval: Estimate, *, scale: float = 1, digits: int = 1) -> str:
    """Write ``94.6 - 98.0`` with an en dash, ``from 4.98`` without upper end, or nothing."""
    if interval.low is None:
        return ""
    low = number_text(interval.low, scale=scale, digits=digits)
    if interval.high is None:
        return f"from {low}"
    return f"{low}\u2009\u2013\u2009{number_text(interval.high, scale=scale, digits=digits)}"


def interval_cell(
    interval: Estimate | None, *, scale: float = 1, digits: int = 1, tone: str = ""
) -> Cell:
    """Write a figure over its interval."""
    if interval is None:
        return Cell(MISSING, tone="muted", is_number=True)
    return Cell(
        number_text(interval.value, scale=scale, digits=digits),
        sub=bounds_text(interval, scale=scale, digits=digits),
        tone=tone,
        is_number=True,
        values=tuple(
            None if end is None else scale * end
            for end in (interval.value, interval.low, interval.high)
        ),
    )


def coverage_cell(num_clips: int, num_clips_in_list: int, rowspan: int = 1) -> Cell:
    """Write ``498 of 500``, marked where clips are missing."""
    lost = num_clips_in_list - num_clips
    return Cell(
        f"{num_clips:,} of {num_clips_in_list:,}",
        sub=f"{lost:,} lost" if lost else "",
        tone="warn" if lost else "",
        is_number=True,
        rowspan=rowspan,
    )


def hash_cell(digest: str, rowspan: int = 1) -> Cell:
    """Write the first ten digits of a hash."""
    return Cell(digest[:10] or MISSING, is_code=True, rowspan=rowspan)


def duration_text(seconds: float) -> str:
    """Write ``5.2 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
