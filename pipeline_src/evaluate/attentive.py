"""Attentive probe: an aggregator learns to read a clip's frozen features, then to classify it.

Recipe of CAV-MAE Sync's development code (arXiv:2505.01237) but for what it trains: there the
aggregator stayed at its random start, here all of it learns. Ours too: features are standardised,
and the epoch is the best on validation clips, never on the scored ones.

Shape legend: N clips, S features of each, D their width, C classes, B clips of a batch.
"""

import copy
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline_src.evaluate.metrics import classification_metrics
from pipeline_src.evaluate.probes import LabelledFeatures, ProbePredictions, hold_out
from pipeline_src.evaluate.records import HEADLINE
from pipeline_src.methods.common.aggregator import Aggregator
from pipeline_src.modalities import LabelKind

EPOCHS, BATCH_SIZE = 25, 48
LEARNING_RATE, BETAS, WEIGHT_DECAY = 2e-4, (0.95, 0.999), 5e-7
WARMUP_FRACTION, LAST_FRACTION = 0.1, 0.1
LABEL_SMOOTHING = 0.1
HEAD_COUNTS, NARROWEST_HEAD = (12, 8, 4, 2), 16
SMALLEST_SPREAD = 1e-6


def attentive_scores(
    *,
    train: LabelledFeatures,
    test: LabelledFeatures,
    val: LabelledFeatures | None,
    task: LabelKind,
    seed: int,
    device: torch.device,
) -> ProbePredictions:
    """Score ``test`` with an aggregator, (N, C); features are (N, S, D).

    Args:
        val: chooses the epoch; None holds out a fifth of ``train`` for that.
    """
    if val is None:
        train, val = hold_out(train, seed)
    num_epochs, best = 0, AttentiveClassifier(train, seed, device)
    best_figure = -math.inf
    for epoch, probe in enumerate(_trained(train, task, seed, device), start=1):
        scores_NC = probe.scores(val.features_ND, task)
        figure = classification_metrics(scores_NC, val.targets_NC, task)[HEADLINE[task]]
        if figure > best_figure:
            best_figure, num_epochs, best = figure, epoch, copy.deepcopy(probe)
    return ProbePredictions(best.scores(test.features_ND, task), {"num_epochs": num_epochs})


class AttentiveClassifier(nn.Module):
    """An aggregator behind the standardisation of its training features."""

    mean_D: Tensor
    std_D: Tensor

    def __init__(self, train: LabelledFeatures, seed: int, device: torch.device) -> None:
        super().__init__()
        features = torch.from_numpy(train.features_ND).flatten(0, 1)
        self.register_buffer("mean_D", features.mean(0))
        self.register_buffer("std_D", features.std(0).clamp(min=SMALLEST_SPREAD))
        dim = features.shape[-1]
        fitting = (count for count in HEAD_COUNTS if dim % count == 0)
        num_heads = next((n for n in fitting if dim // n >= NARROWEST_HEAD), 1)
        torch.manual_seed(seed)
        self.aggregator = Aggregator(dim, train.targets_NC.shape[1], num_heads=num_heads)
        self.to(device)

    def forward(self, features_BSD: Tensor) -> Tensor:
        """Score clips by their features: (B, C)."""
        features_BSD = features_BSD.to(self.mean_D.device)
        return self.aggregator((features_BSD - self.mean_D) / self.std_D)

    @torch.no_grad()
    def scores(self, features_NSD: NDArray, task: LabelKind) -> NDArray:
        """Return probabilities (N, C)."""
        blocks = torch.from_numpy(features_NSD).split(BATCH_SIZE)
        logits_NC = torch.cat([self(block).double().cpu() for block in blocks])
        return (logits_NC.sigmoid() if task == "multilabel" else logits_NC.softmax(-1)).numpy()


def _trained(
    train: LabelledFeatures, task: LabelKind, seed: int, device: torch.device
) -> Iterator[AttentiveClassifier]:
    """Yield the one probe after each epoch."""
    probe = AttentiveClassifier(train, seed, device)
    features, targets = (torch.from_numpy(array) for array in train)
    optimizer = torch.optim.Adam(
        probe.parameters(), LEARNING_RATE, BETAS, weight_decay=WEIGHT_DECAY
    )
    num_steps = EPOCHS * math.ceil(len(features) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: lr_fraction(i / num_steps))
    order = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features), generator=order).split(BATCH_SIZE):
            loss = _loss(probe(features[rows]), targets[rows].float().to(device), task)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield probe


def lr_fraction(progress: float) -> float:
    """Return the learning rate at a share of the training: linear from 0, then a cosine."""
    if progress < WARMUP_FRACTION:
        return progress / WARMUP_FRACTION
    cosine = (1 + math.cos(math.pi * (progress - WARMUP_FRACTION) / (1 - WARMUP_FRACTION))) / 2
    return LAST_FRACTION + (1 - LAST_FRACTION) * cosine


def _loss(logits_BC: Tensor, targets_BC: Tensor, task: LabelKind) -> Tensor:
    """Compute the cross-entropy of smoothed targets, 0-d."""
    smoothed_BC = targets_BC * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / targets_BC.shape[1]
    if task == "multiclass":
        return F.cross_entropy(logits_BC, smoothed_BC)
    return F.binary_cross_entropy_with_logits(logits_BC, smoothed_BC)
