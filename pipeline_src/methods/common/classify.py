"""Supervised fine-tuning with audio, video and audio-video heads in one model.

AVSiam (arXiv:2403.19638): each batch trains one head, drawn at random; ``all_heads`` trains the
three at once instead.

Shape legend: B clips, G frame groups, C classes.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.ratios import MaskRatios
from pipeline_src.modalities import HEADS, LabelKind


class ClassifyPlan(NamedTuple):
    """The heads that one step trains, with their loss weights."""

    weights: dict[str, float]


class Classify(nn.Module):
    """Classification loss of one or all heads; the module that DDP wraps.

    Args:
        model: built with ``num_classes`` > 0.
        task: "multiclass" = cross-entropy with soft targets, "multilabel" = binary cross-entropy.
        label_smoothing: targets become (1 - eps) y + eps / C.
        modality_probs: of audio, video, audio_video: probabilities of a step, or with
            ``all_heads`` weights of the sum.
    """

    passes: tuple[str, ...] = ("classify",)

    def __init__(
        self,
        model: AudioVisualModel,
        *,
        task: LabelKind,
        label_smoothing: float,
        modality_probs: tuple[float, float, float],
        all_heads: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.task: LabelKind = task
        self.label_smoothing = label_smoothing
        self.modality_probs = modality_probs
        self.all_heads = all_heads

    @property
    def find_unused_parameters(self) -> bool:
        """Whether a step may leave parameters without gradient."""
        is_partial = not self.all_heads or 0 in self.modality_probs
        return is_partial or not self.model.all_heads_reach_all

    def draw(
        self,
        batch_size: int,
        ratios: MaskRatios | None,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        negative_mask_NN: Tensor | None = None,
    ) -> ClassifyPlan:
        """Draw the head of one step, on each rank for itself; nothing here is masked."""
        if self.all_heads:
            weights = dict(zip(HEADS, self.modality_probs, strict=True))
            return ClassifyPlan({head: weight for head, weight in weights.items() if weight > 0})
        if generator.device.type != "cpu":  # what is read here must not wait for a GPU
            generator = torch.Generator().manual_seed(generator.initial_seed())
        head = int(torch.multinomial(torch.tensor(self.modality_probs), 1, generator=generator))
        return ClassifyPlan({HEADS[head]: 1.0})

    def forward(
        self, batch: dict[str, Tensor], plan: ClassifyPlan, step_pass: str = "classify"
    ) -> dict[str, Tensor]:
        """Compute the loss of the planned heads.

        Args:
            batch: "logmel" (B, T, M), "frames" (B, F, 3, H, W), "targets" (B, C) in [0, 1].

        Returns:
            0-d tensors: "loss", then <head>_loss of each planned head.
        """
        heads = set(plan.weights)
        logits = self.model.forward_heads(
            audio=None if heads == {"video"} else batch["logmel"],
            video=None if heads == {"audio"} else batch["frames"],
            heads=heads,
        )
        losses = {
            f"{head}_loss": self._loss(logits[head].mean(1), batch["targets"])
            for head in plan.weights
        }
        weighted = [weight * losses[f"{head}_loss"] for head, weight in plan.weights.items()]
        return {"loss": torch.stack(weighted).sum(), **losses}

    def _loss(self, logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
        """Compute the loss of one head, 0-d, against smoothed targets."""
        smooth = self.label_smoothing
        targets_BC = targets_BC * (1 - smooth) + smooth / targets_BC.shape[1]
        if self.task == "multiclass":
            return F.cross_entropy(logits_BC.float(), targets_BC)
        return F.binary_cross_entropy_with_logits(logits_BC.float(), targets_BC)
