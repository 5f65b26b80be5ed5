"""What a model wants to see of a clip: which frames, which part of the log-mel, in which scale.

Shape legend: T log-mel frames, M mel bins, F video frames, G groups of them, H W image side.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline_src.errors import ManifestError
from pipeline_src.loader.segments import SegmentRule
from pipeline_src.loader.windows import window_frames
from pipeline_src.shards.reader import Members
from pipeline_src.shards.samples import Sample


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
        training: random choices, seeded by ``seed`` and the clip's position in the stream.
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

    def choose_frames(
        self, sample: Sample, members: Members, rng: np.random.Generator
    ) -> Sequence[int]:
        """Return the indices of the stored frames that the model is to see.

        Raises:
            ManifestError: the clip has no such window of frames.
        """
        num_stored = len(frame_names(members))
        if not self.fps:
            return self.spread(num_stored, rng)
        size = self.window_frames or self.num_frames
        try:
            return window_frames(
                stored_frame_seconds(members),
                fps=self.fps,
                num_frames=size,
                num_windows=self.num_windows,
                rng=rng if self.training else None,
            )
        except ValueError as error:
            raise ManifestError(f"{sample.shard}: sample {sample.key!r}: {error}") from error

    def choose_segments(
        self, members: Members, frames: Sequence[int] | None, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Choose start and end in the log-mel of each window's segment; none where it is whole.

        Args:
            frames: that the model is to see of the clip; None = it has none, and segments stand
                where frames of equal shares would.
        """
        if not self.segments:
            return []
        seconds: Sequence[float] = ()
        if frames is None:
            num_stored = self.segments.clip_length
            frames = self.spread(num_stored, rng)
        else:
            num_stored = len(frame_names(members))
            seconds = stored_frame_seconds(members) if self.segments.needs_seconds else ()
        step = self.num_windows
        return [
            self.segments.bounds(self.target_length, frames[start::step], num_stored, seconds)
            for start in range(step)
        ]

    def spread(self, num_stored: int, rng: np.random.Generator) -> Sequence[int]:
        """Choose the indices of the frames that the model sees: random ones in training."""
        wanted = self.num_frames
        if not self.training or wanted > num_stored:
            return even_frames(num_stored, wanted)
        edges = np.arange(wanted + 1) * num_stored // wanted
        return rng.integers(edges[:-1], edges[1:]).tolist()

    def fit_logmel(
        self,
        place: NDArray,
        logmel_TM: NDArray,
        rng: np.random.Generator,
        segments: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Cut or pad a log-mel to the model's length, or cut its segments out."""
        if not segments:
            self._fit_whole(place, logmel_TM, rng)
            return
        places_GTM = place.reshape(len(segments), *place.shape[-2:])
        for place_TM, (start, end) in zip(places_GTM, segments, strict=True):
            _copy_padded(place_TM, logmel_TM[start:end])

    def _fit_whole(self, place_TM: NDArray, logmel_TM: NDArray, rng: np.random.Generator) -> None:
        length, wanted = len(logmel_TM), len(place_TM)
        first = int(rng.integers(length - wanted + 1)) if length > wanted else 0
        first = first if self.training else 0
        _copy_padded(place_TM, logmel_TM[first : first + wanted])


def _copy_padded(place_TM: NDArray, kept_TM: NDArray) -> None:
    torch.from_numpy(place_TM[: len(kept_TM)]).copy_(torch.from_numpy(kept_TM))  # float16: fast
    place_TM[len(kept_TM) :] = 0


def frame_names(members: Members) -> list[str]:
    """Return the names of a clip's JPEG files, in the order of time."""
    return sorted(name for name in members if name.startswith("frame_"))


def stored_frame_seconds(members: Members) -> list[float]:
    """Return the moments of a clip's stored frames."""
    return json.loads(bytes(members["json"]))["frame_seconds"]


def even_frames(num_stored: int, wanted: int) -> list[int]:
    """Spread ``wanted`` indices evenly over [0, num_stored), mid-bin; 1 gives the middle frame."""
    return [int((k + 0.5) * num_stored / wanted) for k in range(wanted)]
