"""Mask ratios of a step, and what they leave of a network's tokens; imports no torch."""

from fractions import Fraction
from typing import NamedTuple


class MaskRatios(NamedTuple):
    """Shares of hidden tokens in [0, 1) that hold for one step.

    Args:
        audio, video: of the pass that reconstructs.
        listed: of both modalities, each on an equal share of the clips, in a contrastive pass of
            its own (AVSiam) or in place of ``audio`` and ``video`` (MAViL); empty = none.
    """

    audio: float
    video: float
    listed: tuple[float, ...] = ()


def num_kept(num_tokens: int, mask_ratio: float) -> int:
    """Count the tokens left at ``mask_ratio`` in [0, 1); at least one.

    It is num_tokens * (1 - mask_ratio) in double precision, rounded down, as MAE's released code
    has it. A product that is whole in decimals may come out just below that and lose one: a ratio
    of 0.9 leaves 9 of 100 tokens.
    """
    return max(1, int(num_tokens * (1 - mask_ratio)))


def block_macs(num_tokens: int, dim: int, mlp_ratio: float) -> int:
    """Count multiply-accumulates of a transformer block over one sequence, forward.

    Projections 4 n d^2, MLP 2 n d h with h its hidden width, scores and weighted values 2 n^2 d.
    Norms, softmax, biases and activations are not counted.
    """
    hidden = int(dim * mlp_ratio)
    return num_tokens * (4 * dim**2 + 2 * dim * hidden) + 2 * num_tokens**2 * dim


def mean(values: list[int]) -> Fraction:
    """Compute the exact mean; 0 of nothing."""
    return Fraction(sum(values), len(values)) if values else Fraction(0)
