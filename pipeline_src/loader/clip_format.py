"""What a model wants to see of a clip: which frames, which part of the log-mel, in which scale.

Shape legend: T log-mel frames, M mel bins, F video frames, G groups of them, H W image side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline_src.errors import ManifestError
from pipeline_src.loader.segments import SegmentRule
from pipeline_src.loader.windows import window_frames

Random = np.random.Generator | None


class StoredFrames(NamedTuple):
    """The frames that there are of a clip.

    Args:
        number: how many. seconds: gives the moment of each; asked only where it decides.
    """

    number: int
    seconds: Callable[[], Sequence[float]]


@dataclass(frozen=True)
class ClipFormat:
    """What the model wants to see.

    Args:
        target_length: T; a longer log-mel is cut (at random in training), a shorter one padded
            with 0 before normalisation (CAV-MAE).
        img_size: H = W; stored frames of another size are resized (bicubic).
        num_frames: F; in training one at random in each of F equal spans, else evenly spread.
        fps: > 0 takes the frames from windows of the clip instead, see ``windows.py``.
        window_frames: frames of one window, a divisor of ``num_frames``; 0 = all of them.
        logmel_mean, logmel_std: normalisation of the log-mel, in its own unit (nats); done on the
            device, see ``to_device``.
        segments: shows target_length log-mel frames around the frames of each window instead.
        training: random choices, seeded by ``seed`` and the clip's position in the stream;
            without it every ``rng`` may be None.
    """

    target_length: int
    img_size: int
    num_frames: int
    logmel_mean: float
    logmel_std: float
    training: bool
    seed: int = 0
    fps: float = 0.0
    window_frames: int = 0
    segments: SegmentRule | None = None

    @property
    def num_windows(self) -> int:
        """G: frames k, k + G, k + 2 G .. are a window (``AudioVisualModel.group_frames``)."""
        return self.num_frames // (self.window_frames or self.num_frames)

    def logmel_shape(self, num_mel_bins: int) -> tuple[int, ...]:
        """Return the log-mel's shape as the model sees it: (T, M), or segments (G, T, M)."""
        shape = (self.target_length, num_mel_bins)
        return (self.num_windows, *shape) if self.segments and self.num_windows > 1 else shape

    def choose_frames(self, stored: StoredFrames, rng: Random) -> Sequence[int]:
        """Return the indices of the stored frames that the model is to see.

        Raises:
            ManifestError: the clip has no such window of frames.
        """
        if not self.fps:
            return self.spread(stored.number, rng)
        size = self.window_frames or self.num_frames
        try:
            return window_frames(
                stored.seconds(),
                fps=self.fps,
                num_frames=size,
                num_windows=self.num_windows,
                rng=rng if self.training else None,
            )
        except ValueError as error:
            raise ManifestError(str(error)) from error

    def choose_segments(
        self, stored: StoredFrames | None, frames: Sequence[int], rng: Random
    ) -> list[tuple[int, int]]:
        """Choose start and end in the log-mel of each window's segment; none where it is whole.

        Args:
            stored: the frames of the clip; None = it has none, and segments stand where frames of
                equal shares would.
            frames: those that the model is to see.
        """
        if not self.segments:
            return []
        seconds: Sequence[float] = ()
        if stored is None:
            num_stored = self.segments.clip_length
            frames = self.spread(num_stored, rng)
        else:
            num_stored = stored.number
            seconds = stored.seconds() if self.segments.needs_seconds else ()
        step = self.num_windows
        return [
            self.segments.bounds(self.target_length, frames[start::step], num_stored, seconds)
            for start in range(step)
        ]

    def spread(self, num_stored: int, rng: Random) -> Sequence[int]:
        """Choose the indices of the frames that the model sees: random ones in training."""
        wanted = self.num_frames
        if rng is None or not self.training or wanted > num_stored:
            return even_frames(num_stored, wanted)
        edges = np.arange(wanted + 1) * num_stored // wanted
        return rng.integers(edges[:-1], edges[1:]).tolist()

    def fit_logmel(
        self,
        place: NDArray,
        logmel_TM: NDArray,
        rng: Random,
        segments: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Cut or pad a log-mel to the model's length, or cut its segments out."""
        if not segments:
            self._fit_whole(place, logmel_TM, rng)
            return
        places_GTM = place.reshape(len(segments), *place.shape[-2:])
        for place_TM, (start, end) in zip(places_GTM, segments, strict=True):
            _copy_padded(place_TM, logmel_TM[start:end])

    def _fit_whole(self, place_TM: NDArray, logmel_TM: NDArray, rng: Random) -> None:
        length, wanted, first = len(logmel_TM), len(place_TM), 0
        if self.training and rng is not None and length > wanted:
            first = int(rng.integers(length - wanted + 1))
        _copy_padded(place_TM, logmel_TM[first : first + wanted])


def _copy_padded(place_TM: NDArray, kept_TM: NDArray) -> None:
    torch.from_numpy(place_TM[: len(kept_TM)]).copy_(torch.from_numpy(kept_TM))  # float16: fast
    place_TM[len(kept_TM) :] = 0


def even_frames(num_stored: int, wanted: int) -> list[int]:
    """Spread ``wanted`` indices evenly over [0, num_stored), mid-bin; 1 gives the middle frame."""
    return [int((k + 0.5) * num_stored / wanted) for k in range(wanted)]
