"""What a model wants to see of a clip: which frames, which part of the log-mel, in which scale.

Shape legend: T log-mel frames, M mel bins, F video frames, H W image side.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline_src.errors import ManifestError
from pipeline_src.loader.windows import window_frames
from pipeline_src.shards.read import Sample
from pipeline_src.shards.reader import Members


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

    def choose_frames(
        self, sample: Sample, members: Members, rng: np.random.Generator
    ) -> Iterator[memoryview]:
        """The JPEG files that the model is to see."""
        names = sorted(name for name in members if name.startswith("frame_"))
        if not self.fps:
            return (members[names[i]] for i in self.spread(len(names), rng))
        size = self.window_frames or self.num_frames
        moments = json.loads(bytes(members["json"]))["frame_seconds"]
        try:
            chosen = window_frames(
                moments,
                fps=self.fps,
                num_frames=size,
                num_windows=self.num_frames // size,
                rng=rng if self.training else None,
            )
        except ValueError as error:
            raise ManifestError(f"{sample.shard}: sample {sample.key!r}: {error}") from error
        return (members[names[i]] for i in chosen)

    def spread(self, num_stored: int, rng: np.random.Generator) -> Sequence[int]:
        """Indices of the frames that the model sees of a clip: random ones in training."""
        wanted = self.num_frames
        if not self.training or wanted > num_stored:
            return even_frames(num_stored, wanted)
        edges = np.arange(wanted + 1) * num_stored // wanted
        return rng.integers(edges[:-1], edges[1:]).tolist()

    def fit_logmel(self, place_TM: NDArray, logmel_TM: NDArray, rng: np.random.Generator) -> None:
        """Cut or pad a log-mel to the model's length."""
        length, wanted = len(logmel_TM), len(place_TM)
        first = int(rng.integers(length - wanted + 1)) if length > wanted else 0
        first = first if self.training else 0
        kept = torch.from_numpy(logmel_TM[first : first + wanted])
        torch.from_numpy(place_TM[: len(kept)]).copy_(kept)  # numpy is slow with float16
        place_TM[len(kept) :] = 0


def even_frames(num_stored: int, wanted: int) -> list[int]:
    """``wanted`` indices spread evenly over [0, num_stored), mid-bin; 1 gives the middle frame."""
    return [int((k + 0.5) * num_stored / wanted) for k in range(wanted)]
