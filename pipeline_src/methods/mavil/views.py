"""What MAViL's step is asked to look at and to predict: plain tensors, drawn outside the network.

Shape legend: B clips of a chunk, K kept tokens, Q hidden tokens to predict, P values of a patch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline_src.methods.common.masking import Mask


class Diffusion(NamedTuple):
    """How hidden patches are noised: steps (B,) from 1 to T, Gaussian noise (B, Q, P)."""

    steps_B: Tensor
    noise_BQP: Tensor


class Query(NamedTuple):
    """Hidden tokens that a decoder predicts, (B, Q), and how it sees them if not as mask tokens."""

    ids_BQ: Tensor
    diffusion: Diffusion | None = None


Masks = tuple[Mask, Mask]  # of audio and of video
Queries = tuple[Query, Query]


class View(NamedTuple):
    """One masked look at clips; without queries it is encoded only."""

    masks: Masks
    queries: Queries | None = None


class ViewedClips(NamedTuple):
    """Clips of a batch with the same mask ratios in each view: indices (B,), and the views."""

    clip_ids: Tensor
    views: tuple[View, ...]


def move(value: Any, device: torch.device) -> Any:
    """Move every tensor of nested tuples to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if not isinstance(value, tuple):
        return value
    parts = [move(part, device) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
