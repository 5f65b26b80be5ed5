"""Mixup of two clips with one share for sound, frames and labels (fine-tuning of AVSiam, CAV-MAE).

The log-mel of a mixture is computed from waveforms, with the settings that the shards' own log-mel
was made with. Not as released: the second clip is read only when it is used, its frames are its
own (CAV-MAE took the first clip's), and they have the share of the sound (AVSiam drew another).

Shape legend: S samples, T log-mel frames, M mel bins, F video frames, H W image side.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_src.config.data import AudioConfig
from pipeline_src.errors import ManifestError

PURPOSE = 1  # sets the draws of mixup apart from those of frames and cuts at the same position


class Mix(NamedTuple):
    """What one clip is mixed with.

    Args:
        second: index of the other clip.
        share: of the first clip, in [0, 1].
        rng: for the choice of the second clip's frames.
    """

    second: int
    share: float
    rng: np.random.Generator


@dataclass(frozen=True)
class Mixup:
    """How often clips are mixed, and the front end of their log-mel.

    Args:
        probability: of a clip to be mixed.
        alpha: the first clip's share is drawn from Beta(alpha, alpha).
        audio, sample_rate_hz: what the stored log-mel was computed with.
    """

    probability: float
    alpha: float
    audio: AudioConfig
    sample_rate_hz: int

    def draw(self, num_clips: int, *, seed: int, position: int) -> Mix | None:
        """Draw what the clip at ``position`` of the stream is mixed with; None = it stays alone.

        The other clip is uniform over all ``num_clips``, the first one included, as released.
        """
        rng = np.random.default_rng((seed, position, PURPOSE))
        if rng.random() >= self.probability:
            return None
        return Mix(int(rng.integers(num_clips)), float(rng.beta(self.alpha, self.alpha)), rng)

    def mix_logmel(self, first_S: NDArray, second_S: NDArray, share: float) -> NDArray:
        """Return the log-mel (T, M) float32 of the mixed waveforms, not padded, not normalised.

        Each waveform loses its mean, then the second is cut or padded with 0 to the first one's
        length; the front end takes the mixture's own mean away.
        """
        from pipeline_src.logmel.fbank import log_mel  # torchaudio, which only mixup needs

        fitted_S = np.zeros_like(first_S)
        fitted_S[: len(second_S)] = (second_S - second_S.mean())[: len(first_S)]
        mixed_S = share * (first_S - first_S.mean()) + (1 - share) * fitted_S
        return log_mel(torch.from_numpy(mixed_S), self.audio, self.sample_rate_hz).numpy()


def mix_frames(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return the weighted mean of two clips' frames, of one shape and uint8 as they are stored."""
    mixture = share * first.float() + (1 - share) * second.float()
    return mixture.round().to(torch.uint8)


def read_mixup(index_paths: Sequence[Path], *, probability: float, alpha: float) -> Mixup:
    """Read how the clips of these indexes are mixed: as their log-mel was computed.

    Raises:
        ManifestError: an index does not say, or two of them differ.
    """
    found = [_front_end(path) for path in index_paths]
    for path, front_end in zip(index_paths, found, strict=True):
        if front_end != found[0]:
            raise ManifestError(
                f"{path}: log-mel made with {front_end}, {index_paths[0]} with {found[0]}; "
                "clips of both cannot be mixed"
            )
    audio, sample_rate_hz = found[0]
    return Mixup(probability, alpha, audio, sample_rate_hz)


def _front_end(index_path: Path) -> tuple[AudioConfig, int]:
    index = json.loads(index_path.read_text(encoding="utf-8"))
    if "audio" not in index:
        raise ManifestError(
            f"{index_path}: does not say how the log-mel was computed, which finetune.mixup "
            "needs; delete it and run again"
        )
    return AudioConfig.model_validate(index["audio"]), int(index["sample_rate_hz"])
