"""The attentive probe: it learns, all of it, and finds what no mean shows."""

import numpy as np
import pytest
import torch

from pipeline_src.evaluate import attentive
from pipeline_src.evaluate.attentive import AttentiveClassifier, attentive_scores, lr_fraction
from pipeline_src.evaluate.probes import LabelledFeatures, headline
from pipeline_src.methods import METHODS
from pipeline_src.methods.factory import create_model
from tests.networks import SMALL

CPU = torch.device("cpu")


def make_sets(num_clips, seed, num_classes=3):
    """Clips whose class is the direction of one outstanding feature among others, at any place."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_clips)
    features = 0.5 * rng.standard_normal((num_clips, 5, 8)).astype(np.float32)
    features[np.arange(num_clips), rng.integers(5, size=num_clips), labels] += 4
    return LabelledFeatures(features, np.eye(num_classes)[labels])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_it_finds_the_outstanding_feature(monkeypatch, task):
    monkeypatch.setattr(attentive, "EPOCHS", 15)
    monkeypatch.setattr(attentive, "LEARNING_RATE", 2e-3)
    train, val, test = make_sets(300, 0), make_sets(90, 1), make_sets(90, 2)
    found = attentive_scores(train=train, val=val, test=test, task=task, seed=0, device=CPU)
    score = headline(found.scores_NC, test.targets_NC, task=task, num_resamples=0, seed=0)
    assert score["value"] > 0.9
    assert 1 <= found.chosen["num_epochs"] <= 15


def test_the_whole_aggregator_trains(monkeypatch):
    monkeypatch.setattr(attentive, "EPOCHS", 1)
    train = make_sets(60, 0)
    before = dict(AttentiveClassifier(train, 0, CPU).named_parameters())
    (after,) = attentive._trained(train, "multiclass", 0, CPU)
    changed = {n for n, p in after.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(before)


def test_the_learning_rate_rises_then_falls_to_a_tenth():
    assert [lr_fraction(x) for x in (0, 0.05, 0.1)] == pytest.approx([0, 0.5, 1])
    assert lr_fraction(1) == pytest.approx(0.1)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_it_several_features_of_a_clip(method):
    torch.manual_seed(0)
    model = create_model(f"{method}_tiny", **SMALL, num_frames=2, num_registers=2).eval()
    logmel_BTM, frames_BFCHW = torch.randn(3, 24, 16), torch.randn(3, 4, 3, 16, 16)
    with torch.no_grad():
        whole = model.embed_sets(logmel_BTM, frames_BFCHW)
        segments = model.embed_sets(torch.stack([logmel_BTM, logmel_BTM + 1], 1), frames_BFCHW)
        late_BTM = logmel_BTM.clone()
        late_BTM[:, -8:] += 3
        changed = model.embed_sets(late_BTM)["audio"] - whole["audio"]
    groups = 4 // model.config.num_frames
    assert whole["audio"].shape == (3, 3, 16)  # 24 log-mel frames in patches of 8
    assert whole["video"].shape == segments["video"].shape == (3, groups, 16)
    assert segments["audio"].shape == (3, 2, 16)
    assert torch.isfinite(whole["audio"]).all()
    size_S = changed.norm(dim=-1).mean(0)
    assert size_S.argmax() == 2, "a column of tokens stands for its own time"
