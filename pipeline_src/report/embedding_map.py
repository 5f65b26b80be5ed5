"""t-SNE of audio and video embeddings in one plane, as figure 4 of AVSiam (arXiv:2403.19638).

Shape legend: N clips, S selected clips, D embedding width.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from pipeline_src.report.blocks import Chart
from pipeline_src.report.drawing import CLASS_COLOURS, NEUTRAL_COLOUR, draw_chart, shorten

MAX_CLASSES = len(CLASS_COLOURS)
MAX_VECTOR_POINTS = 2400  # above, the points are drawn as pixels to keep the page small
SEED = 0
MIN_CLIPS = 5


def select_clips(labels_N: NDArray, num_clips: int) -> NDArray[np.int64]:
    """At most ``num_clips`` positions: the most frequent classes, equally many clips of each."""
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
    """Joint t-SNE of unit vectors; (S, 2) each."""
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
    """Audio as plus signs, video as circles, one colour per class.

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
