"""Our log-mel against recorded values of the front end that CAV-MAE and AVSiam share.

Recorded: shape, first and last four frames, mean and std of seeded waveforms.
"""

import numpy as np
import pytest
import torch

from pipeline_src.config.data import AudioConfig
from pipeline_src.logmel.fbank import log_mel
from tests.parity.seeded import cases_with

CASES = cases_with("fbank/silence_value")
WAVEFORMS = [
    pytest.param(case, int(name.split("/")[1]), id=name)
    for case in CASES
    for name in case.names(r"fbank/\d+/shape")
]
SAMPLE_RATE_HZ = 16000
TOLERANCE = 1e-4

pytestmark = pytest.mark.parity


def seeded_waveform(case, num_samples):
    values = case.rng(f"wav{num_samples}").standard_normal(num_samples) * 0.1
    waveform = torch.from_numpy(values.astype(np.float32))
    return waveform - waveform.mean()


@pytest.mark.parametrize(("case", "num_samples"), WAVEFORMS)
def test_log_mel_is_the_recorded_one(case, num_samples):
    recorded = case.arrays
    features_TM = log_mel(seeded_waveform(case, num_samples), AudioConfig(), SAMPLE_RATE_HZ)
    head = f"fbank/{num_samples}/"
    assert list(features_TM.shape) == recorded[head + "shape"].tolist()
    edges = torch.cat([features_TM[:4], features_TM[-4:]]).numpy()
    np.testing.assert_allclose(edges, recorded[head + "first4last4"], rtol=0, atol=TOLERANCE)
    assert features_TM.mean().item() == pytest.approx(recorded[head + "mean"], abs=TOLERANCE)
    assert features_TM.std().item() == pytest.approx(recorded[head + "std"], abs=TOLERANCE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem)
def test_silence_is_the_recorded_value(case):
    features_TM = log_mel(torch.zeros(SAMPLE_RATE_HZ), AudioConfig(), SAMPLE_RATE_HZ)
    assert features_TM.unique().numel() == 1
    silence = case.arrays["fbank/silence_value"]
    assert features_TM[0, 0].item() == pytest.approx(silence, abs=TOLERANCE)
