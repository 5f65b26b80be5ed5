"""Loss curves of pre-training and fine-tuning, from metrics.jsonl."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline_src.report.blocks import MODALITY_LABELS, Chart
from pipeline_src.report.drawing import (
    CLASS_COLOURS,
    MODALITY_COLOURS,
    NEUTRAL_COLOUR,
    TEXT_SENTINEL,
    draw_chart,
)

MAX_POINTS = 240
Row = Mapping[str, Any]


class Line(NamedTuple):
    """One logged quantity of a panel."""

    key: str
    label: str
    colour: str


class Panel(NamedTuple):
    """One chart of a training."""

    title: str
    lines: tuple[Line, ...]


def _modality_lines(pattern: str) -> tuple[Line, ...]:
    return tuple(
        Line(pattern.format(name), MODALITY_LABELS[name], MODALITY_COLOURS[name])
        for name in ("audio", "video")
    )


TOTAL = Line("loss", "total", TEXT_SENTINEL)
GRADIENT_PANEL = Panel(
    "Gradient norm, before clipping",
    (
        Line("grad_norm", "all losses", TEXT_SENTINEL),
        Line("grad_norm_contrast", "contrast", MODALITY_COLOURS["audio_video"]),
        Line("grad_norm_reconstruct", "reconstruction", NEUTRAL_COLOUR),
    ),
)
PRETRAIN_PANELS = (
    Panel("Total loss", (TOTAL,)),
    Panel(
        "Contrastive loss", (Line("contrast_loss", "contrast", MODALITY_COLOURS["audio_video"]),)
    ),
    Panel(
        "Reconstruction loss",
        (
            *_modality_lines("{}_reconstruct_loss"),
            Line("reconstruct_loss", "together", NEUTRAL_COLOUR),
        ),
    ),
    Panel("Feature spread", _modality_lines("{}_spread")),
    Panel(
        "Contrastive accuracy in the batch",
        (Line("contrast_accuracy", "contrast", MODALITY_COLOURS["audio_video"]),),
    ),
    GRADIENT_PANEL,
)
FINETUNE_PANELS = (Panel("Training loss", (TOTAL,)), GRADIENT_PANEL)


def training_charts(
    rows: Sequence[Row], panels: Sequence[Panel], *, name: str
) -> tuple[list[Chart], list[str]]:
    """One chart per panel whose quantities were logged, and the titles of the others."""
    charts, absent = [], []
    for panel in panels:
        curves = {line: curve for line in panel.lines if (curve := _curve(rows, line.key))}
        if curves:
            charts.append(_line_chart(curves, title=panel.title, name=name))
        else:
            absent.append(panel.title)
    return charts, absent


def validation_chart(rows: Sequence[Row], *, name: str) -> Chart | None:
    """Validation scores by modality over epochs; None where none was logged."""
    scored = [
        {"epoch": row["epoch"], **row["val"]} for row in rows if isinstance(row.get("val"), dict)
    ]
    lines = [Line(key, label, MODALITY_COLOURS[key]) for key, label in MODALITY_LABELS.items()]
    curves = {line: curve for line in lines if (curve := _curve(scored, line.key, scale=100))}
    if not curves:
        return None
    return _line_chart(curves, title="Validation score, per cent", name=name, marker="o")


Curve = tuple[NDArray, NDArray]


def _curve(rows: Sequence[Row], key: str, scale: float = 1, over: str = "epoch") -> Curve | None:
    """Epochs, or ``over``, and values of a quantity; long curves as means of equal runs of rows."""
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


def _line_chart(
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


def progress_charts(progress: Mapping[str, Sequence[Row]]) -> list[Chart]:
    """One chart a modality: validation scores of several runs over the operations they spent.

    Args:
        progress: rows of each run: "tflop" since its first step, and a score per modality.
    """
    charts = []
    for modality, label in MODALITY_LABELS.items():
        colours = dict(zip(progress, CLASS_COLOURS, strict=False))
        found = {
            Line(run, run, colours[run]): curve
            for run, rows in progress.items()
            if (curve := _curve(rows, modality, scale=100, over="tflop"))
        }
        if found:
            charts.append(
                _line_chart(
                    found,
                    title=f"Validation score, {label}",
                    name="Runs",
                    marker="o",
                    axis_label="TFLOP, pre-training included",
                )
            )
    return charts
