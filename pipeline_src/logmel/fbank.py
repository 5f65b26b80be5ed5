"""Kaldi log-mel filterbank as in CAV-MAE (arXiv:2210.07839) and AVSiam (arXiv:2403.19638).

Waveform minus its mean; HTK-compatible, Hanning window, no energy, no dither, natural logarithm.
The only place that knows torchaudio. Shape legend: S samples, T frames, M mel bins.
"""

from torch import Tensor
from torchaudio.compliance import kaldi

from pipeline_src.config.data import AudioConfig


def num_window_samples(audio: AudioConfig, sample_rate_hz: int) -> int:
    """Return the samples of one window: a shorter waveform has no frame."""
    return int(sample_rate_hz * audio.window_length_ms * 0.001)


def log_mel(waveform_S: Tensor, audio: AudioConfig, sample_rate_hz: int) -> Tensor:
    """Compute the log-mel of a mono waveform: float32 (T, M), not padded, not normalised.

    Args:
        waveform_S: samples in [-1, 1).
    """
    return kaldi.fbank(
        (waveform_S - waveform_S.mean())[None],
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
