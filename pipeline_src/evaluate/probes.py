"""Probes of a frozen encoder: what its features hold before any label has shaped them.

Linear: logistic regression on standardised features; its strength is chosen on validation clips,
never on the test clips. k-NN: cosine neighbours, votes weighted by exp(similarity / 0.07) (Wu et
al., arXiv:1805.01978), of features less their training mean, which all clips share and which would
make all cosines alike. The same calls on an untrained encoder give the figure to beat.

Shape legend: N clips, D feature width, C classes, K neighbours.
"""

import logging
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize
from threadpoolctl import threadpool_limits

from pipeline_src.evaluate.intervals import Interval, classification_intervals
from pipeline_src.evaluate.metrics import classification_metrics
from pipeline_src.evaluate.records import HEADLINE
from pipeline_src.modalities import LabelKind
from pipeline_src.system.progress import ProgressLine

INVERSE_STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # scikit-learn's C
MAX_ITERATIONS = 200
HELD_OUT_FRACTION = 0.2
KNN_TEMPERATURE = 0.07
# Products per pass over the clips up to which two threads of BLAS took 1.4 to 4 times as long as
# one (benchmarks/probe_threads.py); of larger fits nothing is known.
ONE_THREAD_UP_TO = 10**9
logger = logging.getLogger(__name__)


class LabelledFeatures(NamedTuple):
    """Features of one split, (N, D) or several per clip (N, S, D), and its 0/1 targets, (N, C)."""

    features_ND: NDArray
    targets_NC: NDArray


class ProbePredictions(NamedTuple):
    """Scores of the test clips (N, C), and what was chosen on the way to them."""

    scores_NC: NDArray
    chosen: dict[str, Any]


def probe_scores(
    *,
    train: LabelledFeatures,
    test: LabelledFeatures,
    val: LabelledFeatures | None,
    task: LabelKind,
    num_neighbours: int,
    seed: int,
    kinds: Collection[str] = ("linear", "knn"),
) -> dict[str, ProbePredictions]:
    """Score ``test`` with linear and k-NN probes, those of them that ``kinds`` names: (N, C).

    Args:
        val: chooses the strength of the linear probe; None holds out a fifth of ``train`` for that.
    """
    found = {}
    if "linear" in kinds:
        strength = choose_strength(train=train, val=val, task=task, seed=seed)
        is_at_end = strength in (INVERSE_STRENGTHS[0], INVERSE_STRENGTHS[-1])
        if is_at_end:
            logger.warning("linear probe: the best inverse_strength, %g, ends its grid", strength)
        linear_NC = linear_scores(train, test.features_ND, task=task, inverse_strength=strength)
        chosen = {"inverse_strength": strength, "is_at_grid_end": is_at_end}
        found["linear"] = ProbePredictions(linear_NC, chosen)
    if "knn" in kinds:
        num_neighbours = min(num_neighbours, len(train.features_ND))
        knn_NC = knn_scores(train, test.features_ND, num_neighbours=num_neighbours)
        found["knn"] = ProbePredictions(knn_NC, {"num_neighbours": num_neighbours})
    return found


def headline(scores_NC: NDArray, targets_NC: NDArray, **options: Any) -> Interval:
    """Compute accuracy or mAP of scores, with its interval."""
    intervals = classification_intervals(scores_NC, targets_NC, **options)
    interval = intervals[HEADLINE[options["task"]]]
    assert isinstance(interval, dict)
    return interval


def choose_strength(
    *, train: LabelledFeatures, val: LabelledFeatures | None, task: LabelKind, seed: int
) -> float:
    """Choose the inverse strength that is best on the validation clips; the smallest on a tie."""
    if val is None:
        train, val = hold_out(train, seed)
    figures = []
    progress = ProgressLine(
        f"linear probe of {len(train.features_ND)} clips", len(INVERSE_STRENGTHS), unit="strengths"
    )
    for strength in INVERSE_STRENGTHS:
        scores_NC = linear_scores(train, val.features_ND, task=task, inverse_strength=strength)
        figures.append(classification_metrics(scores_NC, val.targets_NC, task)[HEADLINE[task]])
        progress.update()
    progress.close()
    return INVERSE_STRENGTHS[int(np.argmax(figures))]


def hold_out(train: LabelledFeatures, seed: int) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Split off a seeded fifth of the clips, by class where each class has enough of them."""
    labels_N = train.targets_NC.argmax(axis=1)
    smallest = np.bincount(labels_N)[np.unique(labels_N)].min()
    kept, held = train_test_split(
        np.arange(len(labels_N)),
        test_size=HELD_OUT_FRACTION,
        random_state=seed,
        stratify=labels_N if smallest * HELD_OUT_FRACTION >= 1 else None,
    )
    return (
        LabelledFeatures(train.features_ND[kept], train.targets_NC[kept]),
        LabelledFeatures(train.features_ND[held], train.targets_NC[held]),
    )


def linear_scores(
    train: LabelledFeatures, features_ND: NDArray, *, task: LabelKind, inverse_strength: float
) -> NDArray[np.float64]:
    """Fit and score (N, C): softmax over classes (multiclass), one model per class (multilabel).

    A class that no training clip has, or that every one has, scores the constant 0 or 1.
    """
    scaler = StandardScaler().fit(train.features_ND)
    train_ND = np.asarray(scaler.transform(train.features_ND))
    features_ND = np.asarray(scaler.transform(features_ND))
    model = LogisticRegression(C=inverse_strength, max_iter=MAX_ITERATIONS)
    scores_NC = np.tile(train.targets_NC.all(axis=0).astype(float), (len(features_ND), 1))
    learnt_C = np.flatnonzero(train.targets_NC.any(axis=0) & ~train.targets_NC.all(axis=0))
    products = train_ND.size * (len(learnt_C) if task == "multiclass" else 1)
    with threadpool_limits(1 if products <= ONE_THREAD_UP_TO else None, user_api="blas"):
        if task == "multiclass" and len(learnt_C) > 1:
            model.fit(train_ND, train.targets_NC.argmax(axis=1))
            scores_NC[:, learnt_C] = model.predict_proba(features_ND)
        elif task == "multilabel":
            for index in learnt_C:
                model.fit(train_ND, train.targets_NC[:, index])
                scores_NC[:, index] = model.predict_proba(features_ND)[:, 1]
    return scores_NC


def knn_scores(
    train: LabelledFeatures, features_ND: NDArray, *, num_neighbours: int
) -> NDArray[np.float64]:
    """Score by the share of the weighted votes of the nearest training clips, (N, C)."""
    index = NearestNeighbors(n_neighbors=num_neighbours, metric="cosine", algorithm="brute")
    train_ND, test_ND = (
        np.asarray(normalize(np.asarray(x))) for x in (train.features_ND, features_ND)
    )
    mean_D = train_ND.mean(axis=0)
    index.fit(train_ND - mean_D)
    distance_NK, neighbour_NK = index.kneighbors(test_ND - mean_D)
    weight_NK = np.exp(-distance_NK / KNN_TEMPERATURE)
    weight_NK /= weight_NK.sum(axis=1, keepdims=True)
    scores_NC = np.zeros((len(features_ND), train.targets_NC.shape[1]))
    for weight_N, neighbour_N in zip(weight_NK.T, neighbour_NK.T, strict=True):
        scores_NC += weight_N[:, None] * train.targets_NC[neighbour_N]
    return scores_NC
