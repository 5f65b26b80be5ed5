"""Scores of clips by their aligned segments: frame k of a clip and the sound around it.

CAV-MAE Sync (arXiv:2505.01237): ``diagonal_mean``, the mean over k of the cosine of segment k of
both, is the published score; ``mean`` and ``max`` go over all pairs of segments.

Shape legend: N clips, K segments of each, D embedding width.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline_src.evaluate.retrieval import (
    SCORE_PRECISION,
    RetrievalRanks,
    direction_metrics,
    gallery_metrics,
    merge_copies,
    rank_pairs,
    rank_scores,
    unit_rows,
)

SegmentScore = Literal["diagonal_mean", "diagonal_max", "mean", "max"]
SCORES: tuple[SegmentScore, ...] = ("diagonal_mean", "diagonal_max", "mean", "max")
PUBLISHED_SCORE: SegmentScore = "diagonal_mean"
SINGLE_PRECISION = 1e-6


def segment_scores(audio_NKD: NDArray, video_NKD: NDArray, score: SegmentScore) -> NDArray:
    """Score every audio clip (row) with every video clip: (N, N).

    Args:
        audio_NKD, video_NKD: of length 1 along D.
    """
    num_segments = audio_NKD.shape[1]
    if score == "diagonal_mean":
        return np.einsum("ikd,jkd->ij", audio_NKD, video_NKD, optimize=True) / num_segments
    if score == "mean":
        return audio_NKD.mean(axis=1) @ video_NKD.mean(axis=1).T
    best_NN = np.full((len(audio_NKD), len(video_NKD)), -np.inf, audio_NKD.dtype)
    for k in range(num_segments):
        others = range(k, k + 1) if score == "diagonal_max" else range(num_segments)
        for other in others:
            np.maximum(best_NN, audio_NKD[:, k] @ video_NKD[:, other].T, out=best_NN)
    return best_NN


def segment_retrieval(
    audio_NKD: NDArray, video_NKD: NDArray, *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """Retrieve clips by every score.

    Returns:
        As ``segment_metrics``.
    """
    ranks = segment_ranks(audio_NKD, video_NKD)
    return segment_metrics(ranks, num_resamples=num_resamples, seed=seed)


def segment_metrics(
    ranks: dict[str, dict[str, RetrievalRanks]], *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """Compute the figures of a gallery from its ranks by score.

    Returns:
        As ``gallery_metrics`` of the published score, and ``by_score``: the directions of each
        other score, and of ``clip_mean``, the cosine of the clips' mean features.
    """
    options = {"num_resamples": num_resamples, "seed": seed}
    others = {score: one for score, one in ranks.items() if score != PUBLISHED_SCORE}
    return {
        **gallery_metrics(ranks[PUBLISHED_SCORE], **options),
        "by_score": {score: direction_metrics(one, **options) for score, one in others.items()},
    }


def segment_ranks(audio_NKD: NDArray, video_NKD: NDArray) -> dict[str, dict[str, RetrievalRanks]]:
    """Rank the clip's own partner by every score and by ``clip_mean``, in both directions."""
    sides = [
        _unit_segments(side, name) for side, name in ((audio_NKD, "audio"), (video_NKD, "video"))
    ]
    clip_mean = rank_pairs(audio_NKD.mean(axis=1), video_NKD.mean(axis=1))
    return {score: _rank(sides, score) for score in SCORES} | {"clip_mean": clip_mean}


def _rank(sides: list[NDArray], score: SegmentScore) -> dict[str, RetrievalRanks]:
    is_large = score == "max"  # K x K products: half the time in single precision
    audio, video = (side.astype(np.float32) if is_large else side for side in sides)
    scores_NN = segment_scores(audio, video, score)
    return rank_scores(scores_NN, precision=SINGLE_PRECISION if is_large else SCORE_PRECISION)


def _unit_segments(features_NKD: NDArray, name: str) -> NDArray[np.float64]:
    """Scale every segment to length 1, and make copies of a clip equal: (N, K, D)."""
    num_clips, num_segments, dim = features_NKD.shape
    rows = unit_rows(features_NKD.reshape(-1, dim), name).reshape(num_clips, -1)
    return merge_copies(rows).reshape(num_clips, num_segments, dim)


def similarity_maps(audio_NKD: NDArray, video_NKD: NDArray) -> NDArray:
    """Compare every segment of sound (row) with every frame (column) of its clip: (N, K, K)."""
    audio, video = _unit_segments(audio_NKD, "audio"), _unit_segments(video_NKD, "video")
    return np.einsum("nkd,nld->nkl", audio, video).astype(np.float32)
