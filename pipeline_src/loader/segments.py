"""The segment of a log-mel that belongs to a frame (CAV-MAE Sync, arXiv:2505.01237, released code).

The log-mel is padded or cut to ``clip_length`` frames first, so a segment at a clip's end may hold
padding; near both ends it is moved inwards, so several frames share the first and the last one.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

SegmentCentre = Literal["start", "middle", "seconds"]


class SegmentRule(NamedTuple):
    """Where the segment of a frame lies in its clip.

    Args:
        clip_length: log-mel frames that a clip is padded or cut to.
        centre: what of the log-mel a frame belongs to: the start or the middle of its equal share,
            or its moment.
        frames_per_second: of the log-mel; only ``seconds`` needs it.
    """

    clip_length: int
    centre: SegmentCentre = "start"
    frames_per_second: float = 100.0

    @property
    def needs_seconds(self) -> bool:
        """Whether ``bounds`` asks for the moments of frames."""
        return self.centre == "seconds"

    def bounds(
        self, length: int, frames: Sequence[int], num_stored: int, seconds: Sequence[float] = ()
    ) -> tuple[int, int]:
        """Place a segment of ``length`` around stored frames, which share it; return start and end.

        Args:
            frames: indices of stored frames. seconds: moments of all of them.
        """
        places = [self._place(k, num_stored, seconds) for k in frames]
        start = max(0, round(sum(places) / len(places)) - length // 2)
        if start + length <= self.clip_length:
            return start, start + length
        return max(0, self.clip_length - length), self.clip_length

    def _place(self, frame: int, num_stored: int, seconds: Sequence[float]) -> float:
        if self.centre == "seconds" and seconds:
            return seconds[frame] * self.frames_per_second
        share = frame if self.centre == "start" else frame + 0.5
        return share * self.clip_length / num_stored
