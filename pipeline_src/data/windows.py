"""Frames at a given rate from a window of a clip (MAViL family: 8 frames at 2 per second).

A window of ``num_frames / fps`` seconds lies anywhere in the clip: at random in training, at fixed
places in evaluation. It takes the stored frames that are nearest to its moments, so frames must be
stored at least at that rate (``media.frame_rate``). A clip that is shorter than the window gives
its last frame for the moments after its end, as the video of a clip that ends early does.

Shape legend: F frames of a window, G windows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# A moment in the middle between two frames takes the earlier one, whatever the rounding.
TIE = 1e-6
RATE_TOLERANCE = 1e-3


def window_frames(
    frame_seconds: Sequence[float],
    duration_seconds: float,
    *,
    fps: float,
    num_frames: int,
    num_windows: int = 1,
    rng: np.random.Generator | None = None,
) -> list[int]:
    """Indices of stored frames: frame k of window g stands at k * num_windows + g.

    So the network's groups (``AudioVisualModel.group_frames``) are the windows.

    Args:
        frame_seconds: moments of the stored frames from the clip's start, evenly spaced.
        rng: places each window at random; None spreads them evenly, one window in the middle.
    Raises:
        ValueError: frames are stored at a lower rate than ``fps``.
    """
    first, *rest = frame_seconds
    step_seconds = rest[0] - first if rest else 1 / fps
    if fps * step_seconds > 1 + RATE_TOLERANCE:
        raise ValueError(
            f"fps={fps:g} is asked for, frames are stored at {1 / step_seconds:g} per second; set "
            f"media.frame_rate to {fps:g} or more and media.num_frames to 0"
        )
    slack_seconds = max(0.0, duration_seconds - num_frames / fps)
    starts_G = _places(num_windows, rng) * slack_seconds
    moments_FG = (np.arange(num_frames)[:, None] + 0.5) / fps + starts_G
    nearest_FG = np.floor((moments_FG - first) / step_seconds + 0.5 - TIE).astype(int)
    return nearest_FG.clip(0, len(rest)).flatten().tolist()


def _places(num_windows: int, rng: np.random.Generator | None) -> NDArray:
    """Where the windows begin, 0 = at the clip's start, 1 = as late as they can."""
    if rng is not None:
        return rng.random(num_windows)
    return np.array([0.5]) if num_windows == 1 else np.linspace(0, 1, num_windows)
