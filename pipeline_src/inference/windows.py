"""Which stretches of a file are looked at: all of it as one clip, or windows of equal length."""

import math
from typing import Literal

Window = tuple[float, float]
WindowSeconds = float | Literal["auto"] | None
# A clip a little longer than the network hears is one clip, as it is in training.
WHOLE_UP_TO = 2.0
SLACK = 1e-6  # of a window, less than a sample: what dividing may leave over of whole ones


def cut_windows(
    begin: float, end: float, wanted: WindowSeconds, model_seconds: float
) -> list[Window] | None:
    """Cut windows over [begin, end); None = all of it as one clip.

    The last one ends where the file does, so that all are equally long and nothing is left out.

    Args:
        wanted: length of a window; "auto" = ``model_seconds`` for files of more than twice that,
            which the network would hear the beginning of; None = never cut.
        model_seconds: how long a sound the network hears.
    """
    if wanted is None:
        return None
    if wanted == "auto":
        if end - begin <= WHOLE_UP_TO * model_seconds:
            return None
        wanted = model_seconds
    seconds = float(wanted)
    if end - begin <= seconds:
        return None
    count = math.ceil((end - begin) / seconds - SLACK)
    starts = [min(begin + k * seconds, end - seconds) for k in range(count)]
    return [(start, start + seconds) for start in starts]
