"""Frames at a given rate from a window of a clip (MAViL family: 8 frames at 2 per second).

A window is ``num_frames`` stored frames, 1 / fps apart; it lies anywhere in the clip: at random in
training, at fixed places in evaluation. Frames must be stored at least at that rate
(``media.frame_rate``). A clip that is shorter than the window gives its last frame for what is
missing, as the video of a clip that ends early does.
"""

from collections.abc import Sequence

import numpy as np

RATE_TOLERANCE = 1e-3


def window_frames(
    frame_seconds: Sequence[float],
    *,
    fps: float,
    num_frames: int,
    num_windows: int = 1,
    rng: np.random.Generator | None = None,
) -> list[int]:
    """Return the indices of stored frames: frame k of window g stands at k * num_windows + g.

    So the network's groups (``AudioVisualModel.group_frames``) are the windows.

    Args:
        frame_seconds: moments of the stored frames, evenly spaced.
        rng: places each window at random; None spreads them evenly, one window in the middle.
    Raises:
        ValueError: frames are stored at a lower rate than ``fps``.
    """
    num_stored = len(frame_seconds)
    rate = 1 / (frame_seconds[1] - frame_seconds[0]) if num_stored > 1 else fps
    if fps > rate * (1 + RATE_TOLERANCE):
        raise ValueError(
            f"fps={fps:g} is asked for, frames are stored at {rate:g} per second; set "
            f"media.frame_rate to {fps:g} or more and media.num_frames to 0"
        )
    steps = np.rint(np.arange(num_frames) * rate / fps).astype(int)
    last_start = max(0, num_stored - 1 - int(steps[-1]))
    if rng is not None:
        starts = rng.integers(last_start + 1, size=num_windows)
    else:
        starts = _even_starts(last_start, num_windows)
    return (steps[:, None] + starts).clip(max=num_stored - 1).flatten().tolist()


def _even_starts(last_start: int, num_windows: int) -> np.ndarray:
    """Spread the windows' first frames (num_windows,) over the clip; one alone is in the middle."""
    if num_windows == 1:
        return np.array([last_start // 2])
    return np.linspace(0, last_start, num_windows).astype(int)
