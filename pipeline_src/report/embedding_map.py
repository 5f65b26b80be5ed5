"""The t-SNE map: audio and video embeddings in one plane, as figure 4 of AVSiam (arXiv:2403.19638).

Shape legend: N clips, S selected clips, D embedding width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from pipeline_src.report.blocks import Chart, HoverSeries, Sheet
from pipeline_src.report.colours import CLASS_COLOURS, NEUTRAL_COLOUR
from pipeline_src.report.drawing import draw_chart, shorten

MAX_CLASSES = len(CLASS_COLOURS)
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


class MapClips(NamedTuple):
    """What a map is drawn of: (N, D) embeddings, (N,) class indices and (N,) names."""

    audio_ND: NDArray
    video_ND: NDArray
    labels_N: NDArray
    clip_ids_N: NDArray


def embedding_chart(
    clips: MapClips,
    class_names: Sequence[str],
    *,
    num_clips: int,
    title: str,
    name: str,
    draw_sheet: Callable[[Sequence[str]], Sheet | None],
) -> Chart:
    """Draw audio as plus signs, video as circles, one colour per class.

    Args:
        draw_sheet: makes pictures of the clips that it is given.
    Raises:
        ValueError: fewer than MIN_CLIPS clips.
    """
    chosen = select_clips(clips.labels_N, num_clips)
    if len(chosen) < MIN_CLIPS:
        raise ValueError(f"a t-SNE map needs at least {MIN_CLIPS} clips, got {len(chosen)}")
    audio_S2, video_S2 = project(clips.audio_ND[chosen], clips.video_ND[chosen])
    labels_S = clips.labels_N[chosen]
    classes = np.unique(labels_S)
    names = {int(label): class_names[int(label)] for label in classes}
    colours = dict(zip(names, CLASS_COLOURS, strict=False))

    def paint(axes: Axes) -> None:
        for label, colour in colours.items():
            own = labels_S == label
            axes.plot(*audio_S2[own].T, "+", color=colour, markersize=5.5, markeredgewidth=1.1,
                      linestyle="none")  # fmt: skip
            axes.plot(*video_S2[own].T, "o", color=colour, markersize=4, markeredgewidth=0.9,
                      markerfacecolor="none", linestyle="none")  # fmt: skip
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
        axes.legend(
            handles=_legend(list(names.values())), loc="upper left", bbox_to_anchor=(1.01, 1),
            handletextpad=0.3, labelspacing=0.45,
        )  # fmt: skip

    hover = [
        HoverSeries(
            modality,
            colour,
            [(*planar_S2[s], s) for s in np.flatnonzero(labels_S == label).tolist()],
        )
        for label, colour in colours.items()
        for modality, planar_S2 in (("audio", audio_S2), ("video", video_S2))
    ]
    ids = clips.clip_ids_N[chosen].tolist()
    distance = float(np.linalg.norm(audio_S2.mean(axis=0) - video_S2.mean(axis=0)))
    alt = (
        f"{name}: t-SNE map of {len(chosen)} clips of {len(classes)} classes, each once as "
        f"audio and once as video; the centres of all audio and all video "
        f"points are {distance:.0f} units apart"
    )
    num_left_out = len(np.unique(clips.labels_N)) - len(classes)
    shown = f"{len(chosen)} of {len(clips.labels_N)} clips"
    caption = f"{shown}; the {len(classes)} most frequent classes." if num_left_out else f"{shown}."
    return draw_chart(
        paint,
        title=title,
        alt=alt,
        caption=caption,
        hover=hover,
        texts=[(one, names[int(label)]) for one, label in zip(ids, labels_S, strict=True)],
        sheet=draw_sheet(ids),
        width_inches=8.6,
        height_inches=5.4,
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
