"""Our log-mel against recorded values of the front end that CAV-MAE and AVSiam share.

cases/fbank_and_metrics.npz: shape, first and last four frames, mean and std of seeded waveforms.
"""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline_src.config.data import AudioConfig
from pipeline_src.features.fbank import log_mel

CASES = Path(__file__).parent / "cases" / "fbank_and_metrics.npz"
SAMPLE_RATE_HZ = 16000
TOLERANCE = 1e-4

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def cases():
    with np.load(CASES, allow_pickle=False) as stored:
        return dict(stored)


def seeded_waveform(num_samples):
    rng = np.random.RandomState(zlib.crc32(f"wav{num_samples}".encode()) & 0x7FFFFFFF)
    waveform = torch.from_numpy((rng.standard_normal(num_samples) * 0.1).astype(np.float32))
    return waveform - waveform.mean()


@pytest.mark.parametrize("num_samples", [160000, 100000, 176400])
def test_log_mel_is_the_recorded_one(cases, num_samples):
    features_TM = log_mel(seeded_waveform(num_samples), AudioConfig(), SAMPLE_RATE_HZ)
    head = f"fbank/{num_samples}/"
    assert list(features_TM.shape) == cases[head + "shape"].tolist()
    edges = torch.cat([features_TM[:4], features_TM[-4:]]).numpy()
    np.testing.assert_allclose(edges, cases[head + "first4last4"], rtol=0, atol=TOLERANCE)
    assert features_TM.mean().item() == pytest.approx(cases[head + "mean"], abs=TOLERANCE)
    assert features_TM.std().item() == pytest.approx(cases[head + "std"], abs=TOLERANCE)


def test_silence_is_the_recorded_value(cases):
    features_TM = log_mel(torch.zeros(SAMPLE_RATE_HZ), AudioConfig(), SAMPLE_RATE_HZ)
    assert features_TM.unique().numel() == 1
    assert features_TM[0, 0].item() == pytest.approx(cases["fbank/silence_value"], abs=TOLERANCE)
