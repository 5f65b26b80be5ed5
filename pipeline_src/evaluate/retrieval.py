"""Cross-modal retrieval: the clip's own video among all videos given its audio, and the reverse.

CAV-MAE's protocol (arXiv:2210.07839, released code): mean-pooled embeddings, cosine similarity of
the whole gallery at once. Deviations: fp64 instead of autocast; the rank of the true pair is the
number of strictly better candidates, where the reference also counts equal ones, and queries whose
true pair is tied are counted, because collapsed embeddings would otherwise look perfect.

A network gives the same clip embeddings that differ in the last bits when it stands in another
batch, and a matrix product gives equal rows scores that differ in the last bit. Neither may decide
a rank: embeddings within ``COPY_DISTANCE`` of each other count as one, scores within
``SCORE_PRECISION`` as equal.

Shape legend: N clips, D embedding width, B clips of a block, R resamples.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline_src.evaluate.intervals import (
    Interval,
    bare,
    make_interval,
    resample_counts,
    share_interval,
)
from pipeline_src.evaluate.records import DIRECTIONS

RECALL_AT = (1, 5, 10)
# Between embeddings of length 1. In fp32 a clip's own lie within 1e-6 of each other.
COPY_DISTANCE = 1e-5
SCORE_PRECISION = 1e-12
BLOCK_SIZE = 1024


class RetrievalRanks(NamedTuple):
    """Where each query's true pair stands.

    Args:
        ranks_N: candidates that are strictly better; 0 = found first.
        num_tied: queries whose true pair has the score of another candidate.
    """

    ranks_N: NDArray[np.int64]
    num_tied: int


def rank_pairs(audio_ND: NDArray, video_ND: NDArray) -> dict[str, RetrievalRanks]:
    """Rank the clip's own partner by cosine similarity among all clips, in both directions.

    Args:
        audio_ND: row i of both arrays is the same clip.
    Returns:
        ``RetrievalRanks`` by the names in ``DIRECTIONS``.
    Raises:
        ValueError: the arrays differ in shape, are empty or hold values that are not finite.
    """
    if audio_ND.ndim != 2 or audio_ND.shape != video_ND.shape or len(audio_ND) == 0:
        raise ValueError(
            f"audio {audio_ND.shape} and video {video_ND.shape} must be the same (clips, width)"
        )
    audio_ND = merge_copies(unit_rows(audio_ND, "audio"))
    video_ND = merge_copies(unit_rows(video_ND, "video"))
    own_N = np.einsum("nd,nd->n", audio_ND, video_ND)
    starts = range(0, len(own_N), BLOCK_SIZE)  # a gallery of 20,000 has 3 GB of scores
    blocks = (slice(start, start + BLOCK_SIZE) for start in starts)
    return _rank(own_N, ((block, audio_ND[block] @ video_ND.T) for block in blocks))


def rank_scores(
    scores_NN: NDArray, *, precision: float = SCORE_PRECISION
) -> dict[str, RetrievalRanks]:
    """Rank the clip's own partner by any score, audio as rows, in both directions.

    Args:
        precision: scores within it count as equal.
    """
    return _rank(np.diag(scores_NN), [(slice(None), scores_NN)], precision)


def _rank(
    own_N: NDArray, blocks: Iterable[tuple[slice, NDArray]], precision: float = SCORE_PRECISION
) -> dict[str, RetrievalRanks]:
    """Compare the scores of true pairs with blocks of rows of all scores."""
    better_2N, equal_2N = np.zeros((2, 2, len(own_N)), np.int64)
    for block, scores_BN in blocks:
        to_audio_BN, to_video_BN = scores_BN - own_N[block, None], scores_BN - own_N
        better_2N[0, block] = (to_audio_BN > precision).sum(axis=1)
        better_2N[1] += (to_video_BN > precision).sum(axis=0)
        equal_2N[0, block] = (abs(to_audio_BN) <= precision).sum(axis=1)
        equal_2N[1] += (abs(to_video_BN) <= precision).sum(axis=0)
    return {
        name: RetrievalRanks(better_N, int((equal_N > 1).sum()))
        for name, better_N, equal_N in zip(DIRECTIONS, better_2N, equal_2N, strict=True)
    }


def unit_rows(features_ND: NDArray, name: str) -> NDArray[np.float64]:
    """Scale every row to length 1: (N, D), fp64; a row of zeros stays.

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(features_ND).all():
        raise ValueError(f"{name} embeddings hold values that are not finite")
    features_ND = features_ND.astype(np.float64)
    lengths_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return features_ND / np.maximum(lengths_N1, np.finfo(np.float64).tiny)


def merge_copies(rows_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace each row (N, D) that lies within ``COPY_DISTANCE`` of an earlier one by that one."""
    merged_ND = rows_ND.copy()
    direction_D = np.random.default_rng(0).standard_normal(rows_ND.shape[1])
    places_N = rows_ND @ (direction_D / np.linalg.norm(direction_D))  # copies lie side by side
    order_N = np.argsort(places_N, kind="stable")
    gaps = np.flatnonzero(np.diff(places_N[order_N]) > COPY_DISTANCE) + 1
    for run in np.split(order_N, gaps):
        left = np.sort(run)
        while len(left) > 1:
            is_copy = np.linalg.norm(rows_ND[left] - rows_ND[left[0]], axis=1) <= COPY_DISTANCE
            merged_ND[left[is_copy]] = rows_ND[left[0]]
            left = left[~is_copy]
    return merged_ND


def recall_intervals(ranks_N: NDArray, *, num_resamples: int, seed: int) -> dict[str, Interval]:
    """Compute R@k and median rank (from 1) with intervals over queries of one gallery."""
    recalls = [_recall(ranks_N, k, has_bounds=num_resamples > 0) for k in RECALL_AT]
    by_rank_N = np.argsort(ranks_N, kind="stable")
    medians: list[NDArray] = [np.empty(0)]
    for counts_NR in resample_counts(len(ranks_N), num_resamples, seed):
        medians.append(_median_ranks(ranks_N[by_rank_N], counts_NR[by_rank_N]))
    named = {f"R@{k}": recall for k, recall in zip(RECALL_AT, recalls, strict=True)}
    median = make_interval(float(np.median(ranks_N)) + 1, np.concatenate(medians) + 1)
    return named | {"median_rank": median}


def _recall(ranks_N: NDArray, k: int, *, has_bounds: bool) -> Interval:
    """Give R@k with Wilson's interval; in a gallery of at most k no rank can be worse."""
    num, num_hits = len(ranks_N), int((ranks_N < k).sum())
    if not has_bounds:
        return bare(num_hits / num)
    return share_interval(num_hits, num) if k < num else {"value": 1.0, "low": 1.0, "high": 1.0}


def _median_ranks(sorted_ranks_N: NDArray, counts_NR: NDArray) -> NDArray[np.float64]:
    """Compute the median of each resample of the sorted ranks, (R,)."""
    sums_NR = np.cumsum(counts_NR, axis=0)
    num = len(sorted_ranks_N)
    lower_R = (sums_NR <= (num - 1) // 2).sum(axis=0)
    upper_R = (sums_NR <= num // 2).sum(axis=0)
    return (sorted_ranks_N[lower_R] + sorted_ranks_N[upper_R]) / 2


def chance_level(gallery_size: int) -> dict[str, float]:
    """Give the expected figures of a random order."""
    recalls = {f"R@{k}": min(1.0, k / gallery_size) for k in RECALL_AT}
    return recalls | {"median_rank": (gallery_size + 1) / 2}


def retrieval_metrics(
    audio_ND: NDArray, video_ND: NDArray, *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """Score retrieval in both directions; row i of both arrays is the same clip.

    Returns:
        The figures of ``gallery_metrics``.

    Raises:
        ValueError: a feature is not finite.
    """
    ranks = rank_pairs(audio_ND, video_ND)
    return gallery_metrics(ranks, num_resamples=num_resamples, seed=seed)


def gallery_metrics(
    ranks: dict[str, RetrievalRanks], *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """Compute the figures of a gallery from its ranks.

    Returns:
        gallery_size, chance and those of ``direction_metrics``.
    """
    gallery_size = len(ranks[DIRECTIONS[0]].ranks_N)
    return {
        "gallery_size": gallery_size,
        "chance": chance_level(gallery_size),
        **direction_metrics(ranks, num_resamples=num_resamples, seed=seed),
    }


def direction_metrics(
    ranks: dict[str, RetrievalRanks], *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """Compute the figures of both directions.

    Returns:
        audio_to_video and video_to_audio (R@1, R@5, R@10 and median_rank, each an interval), and
        num_tied, queries per direction whose true pair is tied.
    """
    recalls = {
        name: recall_intervals(rank.ranks_N, num_resamples=num_resamples, seed=seed)
        for name, rank in ranks.items()
    }
    return {**recalls, "num_tied": {name: rank.num_tied for name, rank in ranks.items()}}
