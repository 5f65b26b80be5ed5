"""Scores of clips by their aligned segments: frame k of a clip and the sound around it.

CAV-MAE Sync (arXiv:2505.01237): ``diagonal_mean``, the mean over k of the cosine of segment k of
both, is the published score; ``mean`` and ``max`` go over all pairs of segments.

Shape legend: N clips, K segments of each, D embedding width.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

SegmentScore = Literal["diagonal_mean", "diagonal_max", "mean", "max"]
SCORES: tuple[SegmentScore, ...] = ("diagonal_mean", "diagonal_max", "mean", "max")


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
    for audio_ND, video_ND in zip(audio_NKD.swapaxes(0, 1), video_NKD.swapaxes(0, 1), strict=True):
        against_NKD = video_ND[:, None] if score == "diagonal_max" else video_NKD
        for other_ND in against_NKD.swapaxes(0, 1):
            np.maximum(best_NN, audio_ND @ other_ND.T, out=best_NN)
    return best_NN
