"""Kaldi log-mel filterbank as in CAV-MAE (arXiv:2210.07839) and AVSiam (arXiv:2403.19638).

Waveform minus its mean; HTK-compatible, Hanning window, no energy, no dither, natural logarithm.
The only place that knows torchaudio. Shape legend: S samples, T frames, M mel bins.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from pipeline_src.config.data import AudioConfig

# A call costs milliseconds before its first frame, so short clips share one of about this length.
SAMPLES_PER_CALL = 16000 * 20


def num_window_samples(audio: AudioConfig, sample_rate_hz: int) -> int:
    """Samples of one window: a shorter waveform has no frame."""
    return int(sample_rate_hz * audio.window_length_ms * 0.001)


def num_hop_samples(audio: AudioConfig, sample_rate_hz: int) -> int:
    """Samples between two frames."""
    return int(sample_rate_hz * audio.hop_length_ms * 0.001)


def log_mel(waveform_S: Tensor, audio: AudioConfig, sample_rate_hz: int) -> Tensor:
    """Log-mel of one mono waveform in [-1, 1): float32 (T, M), not padded, not normalised."""
    return _fbank(waveform_S - waveform_S.mean(), audio, sample_rate_hz)


def log_mels(
    waveforms: Sequence[np.ndarray], audio: AudioConfig, sample_rate_hz: int
) -> Iterator[np.ndarray]:
    """Log-mel of each waveform, float32 (T, M); several waveforms share one call.

    Each is placed at a multiple of the hop, so its frames are frames of the concatenation; those
    that reach over its end are dropped. Every waveform must hold at least one window.
    """
    window = num_window_samples(audio, sample_rate_hz)
    hop = num_hop_samples(audio, sample_rate_hz)
    for group in _groups(waveforms):
        starts = np.cumsum([0] + [-(-len(waveform) // hop) for waveform in group])
        joined_S = torch.zeros(int(starts[-1]) * hop + window)
        for waveform, start in zip(group, starts[:-1], strict=True):
            centred_S = torch.from_numpy(waveform)
            joined_S[start * hop : start * hop + len(waveform)] = centred_S - centred_S.mean()
        joined_TM = _fbank(joined_S, audio, sample_rate_hz).numpy()
        for waveform, start in zip(group, starts[:-1], strict=True):
            num_frames = 1 + (len(waveform) - window) // hop
            yield joined_TM[start : start + num_frames]


def _groups(waveforms: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    first = num_samples = 0
    for index, waveform in enumerate(waveforms):
        if index > first and num_samples + len(waveform) > SAMPLES_PER_CALL:
            yield waveforms[first:index]
            first, num_samples = index, 0
        num_samples += len(waveform)
    if first < len(waveforms):
        yield waveforms[first:]


def _fbank(waveform_S: Tensor, audio: AudioConfig, sample_rate_hz: int) -> Tensor:
    return kaldi.fbank(
        waveform_S[None],
        htk_compat=True,
        sample_frequency=sample_rate_hz,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=audio.num_mel_bins,
        dither=0.0,
        frame_shift=audio.hop_length_ms,
        frame_length=audio.window_length_ms,
        low_freq=audio.low_freq_hz,
        high_freq=audio.high_freq_hz,
    )
