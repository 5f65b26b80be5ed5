"""How many frames a clip has, and which moments they show: the middle of equal bins."""

import math

from pipeline_src.config.data import MediaConfig


def count_frames(duration_seconds: float, media: MediaConfig) -> int:
    """Count the frames of a clip: fixed, or with ``frame_rate`` those within it, at least 1."""
    if media.frame_rate:
        return max(1, math.ceil(duration_seconds * media.frame_rate - 0.5))
    return media.num_frames


def frame_seconds(duration_seconds: float, media: MediaConfig) -> list[float]:
    """Return the mid-bin times of a clip's frames, from its start."""
    count = count_frames(duration_seconds, media)
    if media.frame_rate:
        return [round((k + 0.5) / media.frame_rate, 6) for k in range(count)]
    return [round((k + 0.5) / count * duration_seconds, 6) for k in range(count)]
