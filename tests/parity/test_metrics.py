"""Our statistics against those of CAV-MAE's released code, computed on seeded inputs.

The inputs follow from a recorded file's own salt.
"""

import numpy as np
import pytest

from pipeline_src.evaluate.metrics import accuracy, aucs, average_precisions, d_prime
from pipeline_src.evaluate.retrieval import retrieval_metrics
from tests.parity.seeded import cases_with

pytestmark = [
    pytest.mark.parity,
    pytest.mark.parametrize("case", cases_with("stats/AP"), ids=lambda case: case.path.stem),
]


def statistics_inputs(case):
    scores = 1 / (1 + np.exp(-case.rng("p").standard_normal((200, 7))))
    targets = (case.rng("t").random_sample((200, 7)) < 0.25).astype(int)
    targets[targets.sum(axis=1) == 0, 0] = 1
    return scores, targets


def test_class_average_precisions(case):
    np.testing.assert_allclose(
        average_precisions(*statistics_inputs(case)), case.arrays["stats/AP"], atol=1e-9
    )


def test_class_aucs_and_d_prime(case):
    auc = aucs(*statistics_inputs(case))
    np.testing.assert_allclose(auc, case.arrays["stats/auc"], atol=1e-9)
    assert d_prime(auc.mean()) == pytest.approx(float(case.arrays["stats/dprime"]), abs=1e-9)


def test_accuracy_of_multi_hot_targets(case):
    assert accuracy(*statistics_inputs(case)) == pytest.approx(float(case.arrays["stats/acc"]))


@pytest.mark.parametrize(
    ("direction", "stored"), [("audio_to_video", "a2v"), ("video_to_audio", "v2a")]
)
def test_retrieval_in_both_directions(case, direction, stored):
    audio = case.rng("ra").standard_normal((40, 16))
    video = audio + 1.5 * case.rng("rb").standard_normal((40, 16))
    recalls = retrieval_metrics(audio, video, num_resamples=0, seed=0)[direction]
    for ours, theirs in {"R@1": "R1", "R@5": "R5", "R@10": "R10", "median_rank": "MR"}.items():
        assert recalls[ours]["value"] == pytest.approx(
            float(case.arrays[f"retr/{stored}/{theirs}"])
        )
