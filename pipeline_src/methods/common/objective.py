"""What a method's losses give a training.

Shape legend: N clips that are contrasted with each other.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.ratios import MaskRatios


class Objective(Protocol):
    """A module around a network: the passes of a step, its random draw, and losses per pass."""

    model: AudioVisualModel

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of the passes of one step, each with an optimiser step of its own."""
        ...

    @property
    def find_unused_parameters(self) -> bool:
        """Whether some pass leaves parameters without gradient."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the network."""
        ...

    def draw(
        self,
        batch_size: int,
        ratios: MaskRatios | None,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        negative_mask_NN: Tensor | None = None,
    ) -> Any:
        """Draw everything random of one step: masks, permutations, the modality.

        Args:
            batch_size: clips of this rank, which may differ from step to step.
            ratios: of this step; None in a fine-tuning.
            negative_mask_NN: clips that each clip of a contrast is scored against, kept in the plan
                for ``scoped_contrastive_loss``; None = all.
        """
        ...

    def __call__(self, batch: dict[str, Tensor], plan: Any, step_pass: str) -> dict[str, Tensor]:
        """Compute {"loss": 0-d, ...} of a pass; the other values are only logged."""
        ...
