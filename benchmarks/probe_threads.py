"""Seconds of the linear probe's fit with one thread of BLAS and with two, in turn.

    python benchmarks/probe_threads.py > benchmarks/results/probe_threads.json

Features are random, their spread falls as that of an encoder's does; a fit takes 40 to 80 passes.
"""

import json
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks.preprocess import describe_machine

SIZES = ((2000, 96, 10), (2000, 768, 10), (10_000, 768, 100))  # clips, features, classes
ROUNDS = 3
THREADS = (1, 2)


def make_features(num_clips: int, width: int, num_classes: int) -> tuple[NDArray, NDArray]:
    """Draw standardised features (N, D) and labels (N,)."""
    rng = np.random.default_rng(0)
    labels_N = rng.integers(0, num_classes, num_clips)
    means_CD = 0.5 * rng.normal(size=(num_classes, width))
    mixing_DD = rng.normal(size=(width, width)) * np.exp(-np.arange(width) / 15)[:, None]
    features_ND = (rng.normal(size=(num_clips, width)) + means_CD[labels_N]) @ mixing_DD
    return (features_ND - features_ND.mean(0)) / features_ND.std(0), labels_N


def time_fit(features_ND: NDArray, labels_N: NDArray, num_threads: int) -> float:
    """Fit once; seconds."""
    with threadpool_limits(num_threads, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is cut off before it converges
        started = time.perf_counter()
        LogisticRegression(max_iter=40).fit(features_ND, labels_N)
        return time.perf_counter() - started


def main() -> None:
    """Print the medians as JSON."""
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        data = make_features(*size)
        taken = [[time_fit(*data, threads) for threads in THREADS] for _ in range(ROUNDS)]
        medians = np.median(taken, axis=0).round(3).tolist()
        keys = ("clips", "features", "classes", *(f"seconds_{n}" for n in THREADS))
        rows.append(dict(zip(keys, (*size, *medians), strict=True)))
    print(json.dumps({"machine": describe_machine(), "fits": rows}, indent=2))


if __name__ == "__main__":
    main()
