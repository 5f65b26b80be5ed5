"""Charts of classes: confusions, figures by class, and the t-SNE map of embeddings.

The map shows audio and video in one plane, as figure 4 of AVSiam (arXiv:2403.19638).

Shape legend: N clips, C classes, S selected clips, D embedding width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from pipeline_src.report.blocks import MODALITY_LABELS, Chart
from pipeline_src.report.charts import (
    CLASS_COLOURS,
    MODALITY_COLOURS,
    NEUTRAL_COLOUR,
    TEXT_SENTINEL,
    draw_chart,
    shorten,
)

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
        colours[..., :3] = to_rgb(MODALITY_COLOURS["audio"])
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
        colour = "white" if shares_CC[row, column] > 0.45 else TEXT_SENTINEL
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
    """Draw one bar per modality and class, in per cent; a class without value has no bar.

    Args:
        values: modality to (C,).
    """
    thickness = 0.8 / len(values)

    def paint(axes: Axes) -> None:
        rows = np.arange(len(class_names))
        for index, (modality, values_C) in enumerate(values.items()):
            axes.barh(
                rows - 0.4 + (index + 0.5) * thickness, 100 * np.nan_to_num(values_C),
                height=thickness * 0.86, color=MODALITY_COLOURS[modality],
                label=MODALITY_LABELS[modality],
            )  # fmt: skip
        axes.set_yticks(rows, [shorten(name) for name in class_names])
        axes.set_ylim(len(class_names) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("per cent")
        axes.grid(axis="x")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=len(values), handlelength=0.8,
            handletextpad=0.4, borderaxespad=0.2, columnspacing=1.2,
        )  # fmt: skip

    parts = []
    for modality, values_C in values.items():
        if not np.isnan(values_C).all():
            worst = int(np.nanargmin(values_C))
            parts.append(
                f"{MODALITY_LABELS[modality]}: lowest {100 * values_C[worst]:.0f} "
                f"for {class_names[worst]}"
            )
    return draw_chart(
        paint,
        title=title,
        alt=f"{name}, {title} in per cent. " + "; ".join(parts),
        caption=caption,
        height_inches=1.0 + 0.3 * len(class_names),
    )


MAX_CLASSES = len(CLASS_COLOURS)
MAX_VECTOR_POINTS = 2400  # above, the points are drawn as pixels to keep the page small
SEED = 0
MIN_CLIPS = 5


def select_clips(labels_N: NDArray, num_clips: int) -> NDArray[np.int64]:
    """Choose clips of the most frequent classes, equally many of each: positions (S,)."""
    counts = np.bincount(labels_N)
    classes = np.argsort(-counts, kind="stable")[: min(MAX_CLASSES, np.count_nonzero(counts))]
    # Round-robin over classes, so that a small class leaves its places to the others.
    turn_N = np.zeros(len(labels_N), dtype=np.int64)
    for label in classes:
        turn_N[labels_N == label] = range(int(counts[label]))
    candidates = np.flatnonzero(np.isin(labels_N, classes))
    chosen = candidates[np.argsort(turn_N[candidates], kind="stable")][:num_clips]
    return np.sort(chosen)


def project(audio_SD: NDArray, video_SD: NDArray) -> tuple[NDArray, NDArray]:
    """Place unit vectors of both modalities by one t-SNE; (S, 2) each."""
    joint = np.concatenate([audio_SD, video_SD]).astype(np.float64)
    joint /= np.maximum(np.linalg.norm(joint, axis=1, keepdims=True), 1e-12)
    perplexity = min(30.0, (len(joint) - 1) / 3)
    init = "pca" if min(joint.shape) >= 2 else "random"
    planar = TSNE(perplexity=perplexity, init=init, random_state=SEED).fit_transform(joint)
    return planar[: len(audio_SD)], planar[len(audio_SD) :]


def embedding_chart(
    audio_ND: NDArray,
    video_ND: NDArray,
    labels_N: NDArray,
    class_names: Sequence[str],
    *,
    num_clips: int,
    title: str,
    name: str,
) -> Chart:
    """Draw audio as plus signs, video as circles, one colour per class.

    Raises:
        ValueError: fewer than MIN_CLIPS clips.
    """
    chosen = select_clips(labels_N, num_clips)
    if len(chosen) < MIN_CLIPS:
        raise ValueError(f"a t-SNE map needs at least {MIN_CLIPS} clips, got {len(chosen)}")
    audio_S2, video_S2 = project(audio_ND[chosen], video_ND[chosen])
    labels_S = labels_N[chosen]
    classes = np.unique(labels_S)
    is_raster = 2 * len(chosen) > MAX_VECTOR_POINTS

    def paint(axes: Axes) -> None:
        for colour, label in zip(CLASS_COLOURS, classes, strict=False):
            own = labels_S == label
            axes.plot(*audio_S2[own].T, "+", color=colour, markersize=5.5, markeredgewidth=1.1,
                      linestyle="none", rasterized=is_raster)  # fmt: skip
            axes.plot(*video_S2[own].T, "o", color=colour, markersize=4, markeredgewidth=0.9,
                      markerfacecolor="none", linestyle="none", rasterized=is_raster)  # fmt: skip
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
        axes.legend(
            handles=_legend([class_names[int(label)] for label in classes]), loc="upper left",
            bbox_to_anchor=(1.01, 1), handletextpad=0.3, labelspacing=0.45,
        )  # fmt: skip

    distance = float(np.linalg.norm(audio_S2.mean(axis=0) - video_S2.mean(axis=0)))
    alt = (
        f"{name}: t-SNE map of {len(chosen)} clips of {len(classes)} classes, each once as "
        f"audio and once as video; the centres of all audio and all video "
        f"points are {distance:.0f} units apart"
    )
    num_left_out = len(np.unique(labels_N)) - len(classes)
    shown = f"{len(chosen)} of {len(labels_N)} clips"
    caption = f"{shown}; the {len(classes)} most frequent classes." if num_left_out else f"{shown}."
    return draw_chart(
        paint, title=title, alt=alt, caption=caption, width_inches=6.8, height_inches=4.6
    )


def _legend(names: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D(
            [], [], marker="+", markersize=6, label="audio", linestyle="none", color=NEUTRAL_COLOUR
        ),
        Line2D(
            [],
            [],
            marker="o",
            markersize=5,
            markerfacecolor="none",
            label="video",
            linestyle="none",
            color=NEUTRAL_COLOUR,
        ),
    ]
    return handles + [
        Line2D(
            [], [], marker="s", markersize=6, linestyle="none", color=colour, label=shorten(name)
        )
        for colour, name in zip(CLASS_COLOURS, names, strict=False)
    ]
