"""Where in a clip sound and picture agree: every segment of sound against every frame.

Shape legend: N clips, K segments of each.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline_src.report.blocks import Chart, Charts
from pipeline_src.report.drawing import draw_chart

SIMILARITY, SHOWN_IDS = "segment_similarity", "shown_clip_ids"  # in retrieval.npz
CAPTION = (
    "Cosine of each segment of sound (down) with each frame (to the right), both in order of time. "
    "The framed diagonal holds the pairs that belong together, whose mean is the clip\u2019s score."
)
COLOUR_MAP = "magma"
SIDE_INCHES = 2.6
FRAME_COLOUR = "white"


def similarity_charts(maps_NKK: NDArray, clip_ids: Sequence[str], num_examples: int) -> Charts:
    """Draw the maps of the first clips in one scale of colours.

    Raises:
        ValueError: the maps are no squares.
    """
    maps_NKK = maps_NKK[:num_examples]
    if maps_NKK.ndim != 3 or maps_NKK.shape[1] != maps_NKK.shape[2]:
        raise ValueError(f"{SIMILARITY} of shape {maps_NKK.shape}")
    limits = (float(maps_NKK.min()), float(maps_NKK.max()))
    return Charts([
        _map_chart(map_KK, str(clip_id), limits)
        for map_KK, clip_id in zip(maps_NKK, clip_ids, strict=False)
    ])  # fmt: skip


def _map_chart(map_KK: NDArray, clip_id: str, limits: tuple[float, float]) -> Chart:
    aligned = float(map_KK.diagonal().mean())

    def paint(axes: Axes) -> None:
        low, high = limits
        shown = axes.imshow(map_KK, COLOUR_MAP, vmin=low, vmax=high, interpolation="nearest")
        for k in range(len(map_KK)):
            axes.plot(
                [k - 0.5, k + 0.5, k + 0.5, k - 0.5, k - 0.5],
                [k - 0.5, k - 0.5, k + 0.5, k + 0.5, k - 0.5],
                color=FRAME_COLOUR,
                linewidth=0.5,
            )
        axes.set_xlabel("frame")
        axes.set_ylabel("segment of sound")
        bar = axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.04)
        bar.set_label("cosine")

    return draw_chart(
        paint,
        title=f"Clip {clip_id}",
        alt=f"Cosine of the segments of sound of clip {clip_id} with its frames; mean of the pairs "
        f"that belong together {aligned:.2f}, of all {float(map_KK.mean()):.2f}",
        caption=f"pairs {aligned:.2f}, all {float(map_KK.mean()):.2f}",
        width_inches=SIDE_INCHES + 0.6,
        height_inches=SIDE_INCHES,
    )
