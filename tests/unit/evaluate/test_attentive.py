"""The attentive probe: it learns, all of it, and finds what no mean shows."""

import numpy as np
import pytest
import torch

from pipeline_src.evaluate import attentive
from pipeline_src.evaluate.attentive import Probe, attentive_scores, lr_fraction
from pipeline_src.evaluate.probes import LabelledFeatures, headline

CPU = torch.device("cpu")


def make_sets(num_clips, seed, num_classes=3):
    """Clips whose class is the direction of one outstanding feature among others, at any place."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_clips)
    features = 0.5 * rng.standard_normal((num_clips, 5, 8)).astype(np.float32)
    features[np.arange(num_clips), rng.integers(5, size=num_clips), labels] += 4
    return LabelledFeatures(features, np.eye(num_classes)[labels])


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
    before = dict(Probe(train, 0, CPU).named_parameters())
    (after,) = attentive._trained(train, "multiclass", 0, CPU)
    changed = {n for n, p in after.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(before)


def test_the_learning_rate_rises_then_falls_to_a_tenth():
    assert [lr_fraction(x) for x in (0, 0.05, 0.1)] == pytest.approx([0, 0.5, 1])
    assert lr_fraction(1) == pytest.approx(0.1)
