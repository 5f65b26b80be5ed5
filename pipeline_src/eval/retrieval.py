"""Cross-modal retrieval: the clip's own video among all videos given its audio, and the reverse.

CAV-MAE's protocol (arXiv:2210.07839, released code): mean-pooled embeddings, cosine similarity of
the whole gallery at once. Deviations: fp32 instead of autocast; the rank of the true pair is the
number of strictly better candidates, where the reference also counts equal ones, and queries whose
true pair is tied are counted, because collapsed embeddings would otherwise look perfect.

Shape legend: N clips, D embedding width, R resamples.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline_src.eval.intervals import (
    Interval,
    bootstrap_means,
    make_interval,
    resample_counts,
)

RECALL_AT = (1, 5, 10)
DIRECTIONS = ("audio_to_video", "video_to_audio")


class Ranks(NamedTuple):
    """Where each query's true pair stands.

    Args:
        ranks_N: candidates that are strictly better; 0 = found first.
        num_tied: queries whose true pair has exactly the score of another candidate.
    """

    ranks_N: NDArray[np.int64]
    num_tied: int


def similarity_matrix(audio_ND: NDArray, video_ND: NDArray) -> NDArray[np.float32]:
    """(N, N) cosine similarities, audio in rows, in fp32."""
    if audio_ND.ndim != 2 or audio_ND.shape != video_ND.shape or len(audio_ND) == 0:
        raise ValueError(
            f"audio {audio_ND.shape} and video {video_ND.shape} must be the same (clips, width)"
        )
    return _unit_rows(audio_ND, "audio") @ _unit_rows(video_ND, "video").T


def _unit_rows(features_ND: NDArray, name: str) -> NDArray[np.float32]:
    if not np.isfinite(features_ND).all():
        raise ValueError(f"{name} embeddings hold values that are not finite")
    lengths_N = np.linalg.norm(features_ND.astype(np.float64), axis=1, keepdims=True)
    return (features_ND / np.maximum(lengths_N, 1e-12)).astype(np.float32)


def rank_pairs(similarity_NN: NDArray) -> Ranks:
    """Rank, in each row, the diagonal entry among the row's candidates."""
    own_N = np.diag(similarity_NN)[:, None]
    ranks_N = (similarity_NN > own_N).sum(axis=1)
    num_tied = int(((similarity_NN == own_N).sum(axis=1) > 1).sum())
    return Ranks(ranks_N, num_tied)


def recall_intervals(ranks_N: NDArray, *, num_resamples: int, seed: int) -> dict[str, Interval]:
    """R@k and median rank (from 1) with intervals over queries; the gallery stays as it is."""
    hits_N3 = np.stack([ranks_N < k for k in RECALL_AT], axis=1)
    recalls = bootstrap_means(hits_N3, num_resamples=num_resamples, seed=seed)
    by_rank_N = np.argsort(ranks_N, kind="stable")
    medians: list[NDArray] = [np.empty(0)]
    for counts_NR in resample_counts(len(ranks_N), num_resamples, seed):
        medians.append(_median_ranks(ranks_N[by_rank_N], counts_NR[by_rank_N]))
    named = {f"R@{k}": recall for k, recall in zip(RECALL_AT, recalls, strict=True)}
    median = make_interval(float(np.median(ranks_N)) + 1, np.concatenate(medians) + 1)
    return named | {"median_rank": median}


def _median_ranks(sorted_ranks_N: NDArray, counts_NR: NDArray) -> NDArray[np.float64]:
    """(R,) median of each resample of the sorted ranks."""
    sums_NR = np.cumsum(counts_NR, axis=0)
    num = len(sorted_ranks_N)
    lower_R = (sums_NR <= (num - 1) // 2).sum(axis=0)
    upper_R = (sums_NR <= num // 2).sum(axis=0)
    return (sorted_ranks_N[lower_R] + sorted_ranks_N[upper_R]) / 2


def chance_level(gallery_size: int) -> dict[str, float]:
    """Expected figures of a random order."""
    recalls = {f"R@{k}": min(1.0, k / gallery_size) for k in RECALL_AT}
    return recalls | {"median_rank": (gallery_size + 1) / 2}


def retrieval_metrics(
    audio_ND: NDArray, video_ND: NDArray, *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """Retrieval in both directions; row i of both arrays is the same clip.

    Returns:
        gallery_size, chance, audio_to_video and video_to_audio (R@1, R@5, R@10 and median_rank,
        each an interval), and num_tied, queries per direction whose true pair is tied.
    """
    similarity_NN = similarity_matrix(audio_ND, video_ND)
    directions = dict(zip(DIRECTIONS, (similarity_NN, similarity_NN.T), strict=True))
    ranks = {name: rank_pairs(matrix_NN) for name, matrix_NN in directions.items()}
    recalls = {
        name: recall_intervals(rank.ranks_N, num_resamples=num_resamples, seed=seed)
        for name, rank in ranks.items()
    }
    return {
        "gallery_size": len(audio_ND),
        "chance": chance_level(len(audio_ND)),
        **recalls,
        "num_tied": {name: rank.num_tied for name, rank in ranks.items()},
    }
