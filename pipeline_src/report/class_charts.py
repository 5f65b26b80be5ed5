"""Charts of classes: confusions, and figures by class.

Shape legend: C classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline_src.report.blocks import HEAD_LABELS, Chart
from pipeline_src.report.colours import HEAD_COLOURS, HEAT_RGB, TEXT_COLOUR
from pipeline_src.report.drawing import ABOVE, draw_chart, shorten

MAX_LABELLED_CLASSES = 20
MAX_COUNTED_CLASSES = 12


def confusion_chart(
    confusion_CC: NDArray, class_names: Sequence[str], *, title: str, name: str
) -> Chart:
    """Draw the share of each true class (row) that was given each class (column)."""
    totals_C = confusion_CC.sum(axis=1, keepdims=True)
    shares_CC = confusion_CC / np.maximum(totals_C, 1)
    num_classes = len(class_names)

    def paint(axes: Axes) -> None:
        colours = np.empty((num_classes, num_classes, 4))
        colours[..., :3] = np.array(HEAT_RGB) / 255
        colours[..., 3] = shares_CC**0.6  # small shares stay visible
        if num_classes <= MAX_LABELLED_CLASSES:
            edges = np.arange(num_classes + 1) - 0.5
            axes.pcolormesh(edges, edges, colours, linewidth=0, snap=True)
            axes.set_xticks(range(num_classes), [shorten(name) for name in class_names])
            axes.set_yticks(range(num_classes), [shorten(name) for name in class_names])
            if max(len(name) for name in class_names) > 2:
                axes.tick_params(axis="x", rotation=90)
        else:
            axes.imshow(colours, interpolation="nearest")
        axes.set_ylim(num_classes - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.tick_params(length=0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        for spine in axes.spines.values():
            spine.set_visible(True)
        if num_classes <= MAX_COUNTED_CLASSES:
            _write_counts(axes, confusion_CC, shares_CC)

    return draw_chart(
        paint,
        title=title,
        alt=f"{name}, {title}. {_confusion_alt(confusion_CC, class_names)}",
        width_inches=3.8,
        height_inches=3.8,
    )


def _write_counts(axes: Axes, confusion_CC: NDArray, shares_CC: NDArray) -> None:
    for row, column in np.argwhere(confusion_CC):
        colour = "white" if shares_CC[row, column] > 0.45 else TEXT_COLOUR
        axes.text(
            column, row, str(confusion_CC[row, column]),
            ha="center", va="center", color=colour, fontsize=8,
        )  # fmt: skip


def _confusion_alt(confusion_CC: NDArray, class_names: Sequence[str]) -> str:
    right, total = int(np.trace(confusion_CC)), int(confusion_CC.sum())
    wrong_CC = confusion_CC - np.diag(np.diag(confusion_CC))
    text = f"{right} of {total} clips on the diagonal"
    if not wrong_CC.any():
        return text
    row, column = divmod(int(wrong_CC.argmax()), len(class_names))
    return (
        f"{text}; most frequent error: {wrong_CC[row, column]} clips of {class_names[row]} "
        f"taken for {class_names[column]}"
    )


def class_chart(
    values: Mapping[str, NDArray],
    class_names: Sequence[str],
    *,
    title: str,
    name: str,
    caption: str = "",
) -> Chart:
    """Draw one bar per head and class, in per cent; a class without value has no bar.

    Args:
        values: head to (C,).
    """
    thickness = 0.8 / len(values)

    def paint(axes: Axes) -> None:
        rows = np.arange(len(class_names))
        for index, (head, values_C) in enumerate(values.items()):
            axes.barh(
                rows - 0.4 + (index + 0.5) * thickness, 100 * np.nan_to_num(values_C),
                height=thickness * 0.86, color=HEAD_COLOURS[head],
                label=HEAD_LABELS[head],
            )  # fmt: skip
        axes.set_yticks(rows, [shorten(name) for name in class_names])
        axes.set_ylim(len(class_names) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("per cent")
        axes.grid(axis="x")
        axes.legend(**ABOVE, ncols=len(values), handlelength=0.8, handletextpad=0.4)

    parts = []
    for head, values_C in values.items():
        if not np.isnan(values_C).all():
            worst = int(np.nanargmin(values_C))
            parts.append(
                f"{HEAD_LABELS[head]}: lowest {100 * values_C[worst]:.0f} for {class_names[worst]}"
            )
    return draw_chart(
        paint,
        title=title,
        alt=f"{name}, {title} in per cent. " + "; ".join(parts),
        caption=caption,
        height_inches=1.0 + 0.3 * len(class_names),
    )
