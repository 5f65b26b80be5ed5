"""The t-SNE map: audio and video embeddings in one plane, as figure 4 of AVSiam (arXiv:2403.19638).

Shape legend: N clips, S selected clips, D embedding width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pipeline_src.evaluate.plane import place_in_plane
from pipeline_src.report.blocks import Chart, HoverSeries, Sheet
from pipeline_src.report.colours import CLASS_COLOURS, NEUTRAL_COLOUR
from pipeline_src.report.drawing import draw_chart, shorten

MAX_CLASSES = len(CLASS_COLOURS)
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
    planar = place_in_plane(joint)
    return planar[: len(audio_SD)], planar[len(audio_SD) :]


class MapClips(NamedTuple):
    """What a map is drawn of: (N, D) embeddings, (N,) class indices and (N,) names."""

    audio_ND: NDArray
    video_ND: NDArray
    labels_N: NDArray
    clip_ids_N: NDArray


class _Placed(NamedTuple):
    """Clips in the plane, (S, 2) each, their class indices (S,), and the colour of each class."""

    audio_S2: NDArray
    video_S2: NDArray
    labels_S: NDArray
    colours: dict[int, str]


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
    labels_S = clips.labels_N[chosen]
    classes = [int(label) for label in np.unique(labels_S)]
    colours = dict(zip(classes, CLASS_COLOURS, strict=False))
    planar = project(clips.audio_ND[chosen], clips.video_ND[chosen])
    placed = _Placed(*planar, labels_S, colours)
    names: dict[int, str] = {label: class_names[label] for label in colours}
    clip_ids = clips.clip_ids_N[chosen].tolist()
    return draw_chart(
        lambda axes: _paint(axes, placed, list(names.values())),
        title=title,
        alt=f"{name}: {_alt(placed)}",
        caption=_caption(placed, clips.labels_N),
        hover=_hover(placed),
        texts=[(one, names[int(label)]) for one, label in zip(clip_ids, labels_S, strict=True)],
        sheet=draw_sheet(clip_ids),
        width_inches=8.6,
        height_inches=5.4,
    )


def _paint(axes: Axes, placed: _Placed, names: Sequence[str]) -> None:
    for label, colour in placed.colours.items():
        own = placed.labels_S == label
        axes.plot(*placed.audio_S2[own].T, "+", color=colour, markersize=5.5, markeredgewidth=1.1,
                  linestyle="none")  # fmt: skip
        axes.plot(*placed.video_S2[own].T, "o", color=colour, markersize=4, markeredgewidth=0.9,
                  markerfacecolor="none", linestyle="none")  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.legend(
        handles=_legend(names), loc="upper left", bbox_to_anchor=(1.01, 1), handletextpad=0.3,
        labelspacing=0.45,
    )  # fmt: skip


def _hover(placed: _Placed) -> list[HoverSeries]:
    sides = (("audio", placed.audio_S2), ("video", placed.video_S2))
    return [
        HoverSeries(
            modality,
            colour,
            [(*planar_S2[s], s) for s in np.flatnonzero(placed.labels_S == label).tolist()],
        )
        for label, colour in placed.colours.items()
        for modality, planar_S2 in sides
    ]


def _alt(placed: _Placed) -> str:
    apart = np.linalg.norm(placed.audio_S2.mean(axis=0) - placed.video_S2.mean(axis=0))
    return (
        f"t-SNE map of {len(placed.labels_S)} clips of {len(placed.colours)} classes, each once as "
        f"audio and once as video; the centres of all audio and all video points are {apart:.0f} "
        "units apart"
    )


def _caption(placed: _Placed, labels_N: NDArray) -> str:
    shown = f"{len(placed.labels_S)} of {len(labels_N)} clips"
    is_whole = len(np.unique(labels_N)) == len(placed.colours)
    return f"{shown}." if is_whole else f"{shown}; the {len(placed.colours)} most frequent classes."


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
