"""What the plan of a run, not chance in a method, decides about a pre-training step.

Shape legend: N clips that are contrasted with each other.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline_src.methods import MaskRatios


class StepSetting(NamedTuple):
    """Mask ratios of a step and, where not every clip counts, the candidates of its contrast.

    A method takes it in ``draw``: it masks with ``ratios`` and passes ``is_candidate_NN`` on, in
    its plan, to each ``scoped_contrastive_loss``. Without one it uses the ratios it was built with.
    """

    ratios: MaskRatios
    is_candidate_NN: Tensor | None = None  # None = every clip


def draw_candidates(
    num_clips: int, num_candidates: int, generator: torch.Generator
) -> Tensor | None:
    """Choose for each clip itself and random others, ``num_candidates`` in all.

    Returns:
        (N, N) bool, row = clip, True = candidate, both for the clip's audio among the videos and
        for its video among the audios; None where every clip is one.
    """
    if num_candidates >= num_clips:
        return None
    device = generator.device
    noise_NN = torch.rand(num_clips, num_clips, generator=generator, device=device)
    noise_NN.fill_diagonal_(-1)  # the positive is always one
    chosen = noise_NN.topk(num_candidates, dim=1, largest=False).indices
    is_candidate_NN = torch.zeros(num_clips, num_clips, dtype=torch.bool, device=device)
    return is_candidate_NN.scatter_(1, chosen, True)
