"""Our statistics against those of CAV-MAE's released code, computed on seeded inputs.

The numbers are in cases/fbank_and_metrics.npz; the inputs follow from its rules.
"""

import zlib
from pathlib import Path

import numpy as np
import pytest

from pipeline_src.eval.metrics import accuracy, aucs, average_precisions, d_prime
from pipeline_src.eval.retrieval import retrieval_metrics

CASES = Path(__file__).parent / "cases" / "fbank_and_metrics.npz"


@pytest.fixture(scope="module")
def cases():
    with np.load(CASES, allow_pickle=False) as stored:
        return dict(stored)


def seeded(tag):
    return np.random.RandomState(zlib.crc32(tag.encode()) & 0x7FFFFFFF)


@pytest.fixture(scope="module")
def statistics_inputs():
    scores = 1 / (1 + np.exp(-seeded("p").standard_normal((200, 7))))
    targets = (seeded("t").random_sample((200, 7)) < 0.25).astype(int)
    targets[targets.sum(axis=1) == 0, 0] = 1
    return scores, targets


def test_class_average_precisions(cases, statistics_inputs):
    np.testing.assert_allclose(average_precisions(*statistics_inputs), cases["stats/AP"], atol=1e-9)


def test_class_aucs_and_d_prime(cases, statistics_inputs):
    auc = aucs(*statistics_inputs)
    np.testing.assert_allclose(auc, cases["stats/auc"], atol=1e-9)
    assert d_prime(auc.mean()) == pytest.approx(float(cases["stats/dprime"]), abs=1e-9)


def test_accuracy_of_multi_hot_targets(cases, statistics_inputs):
    assert accuracy(*statistics_inputs) == pytest.approx(float(cases["stats/acc"]))


@pytest.mark.parametrize(
    ("direction", "stored"), [("audio_to_video", "a2v"), ("video_to_audio", "v2a")]
)
def test_retrieval_in_both_directions(cases, direction, stored):
    audio = seeded("ra").standard_normal((40, 16))
    video = audio + 1.5 * seeded("rb").standard_normal((40, 16))
    recalls = retrieval_metrics(audio, video, num_resamples=0, seed=0)[direction]
    for ours, theirs in {"R@1": "R1", "R@5": "R5", "R@10": "R10", "median_rank": "MR"}.items():
        assert recalls[ours]["value"] == pytest.approx(float(cases[f"retr/{stored}/{theirs}"]))
