"""CAV-MAE pre-training: one mask per step for the contrastive and the reconstruction loss.

CAV-MAE (arXiv:2210.07839): one pass and one optimiser step; the contrast is one-way, for each video
over the audios, and weighs 0.01. The module is what DDP wraps; masks are drawn outside its forward.

Shape legend: B clips, T log-mel frames, M mel bins, F video frames.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline_src.methods.cav_mae.network import CAVMAE
from pipeline_src.methods.common.contrast import Direction, Scope, scoped_contrastive_loss
from pipeline_src.methods.common.masking import (
    AudioMask,
    Mask,
    draw_noise,
    mask_from_noise,
    structured_noise,
)
from pipeline_src.methods.common.ratios import MaskRatios
from pipeline_src.methods.common.reconstruction import reconstruction_losses


class MaskPlan(NamedTuple):
    """Every random choice of one step."""

    audio_mask: Mask
    video_mask: Mask
    negative_mask_NN: Tensor | None = None  # see ``sample_negatives``


class CAVMAEPretrain(nn.Module):
    """Both pre-training losses of a network, in one pass.

    Args:
        model: built with ``num_classes=0``.
        audio_mask: structure of the audio masks; video masks have none.
    """

    passes: tuple[str, ...] = ("joint",)
    find_unused_parameters = False

    def __init__(
        self,
        model: CAVMAE,
        *,
        contrast_direction: Direction,
        contrast_scope: Scope,
        contrast_weight: float,
        temperature: float,
        reconstruct_weight: float,
        audio_mask: AudioMask,
    ) -> None:
        super().__init__()
        self.model = model
        self.contrast_direction: Direction = contrast_direction
        self.contrast_scope: Scope = contrast_scope
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.reconstruct_weight = reconstruct_weight
        self.audio_mask: AudioMask = audio_mask

    def draw(
        self,
        batch_size: int,
        ratios: MaskRatios,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        negative_mask_NN: Tensor | None = None,
    ) -> MaskPlan:
        """Draw the masks of one step with ``generator`` and move them to ``device``."""
        device = torch.device(device)
        audio_noise = structured_noise(
            batch_size,
            self.model.audio_grid,
            ratios.audio,
            structure=self.audio_mask,
            generator=generator,
        )
        video_noise = draw_noise(batch_size, self.model.num_video_tokens, generator)
        return MaskPlan(
            mask_from_noise(audio_noise, ratios.audio).to(device),
            mask_from_noise(video_noise, ratios.video).to(device),
            negative_mask_NN,
        )

    def forward(
        self, batch: dict[str, Tensor], plan: MaskPlan, step_pass: str = "joint"
    ) -> dict[str, Tensor]:
        """Compute both losses.

        Args:
            batch: "logmel" (B, T, M) and "frames" (B, F, 3, H, W), F = the model's num_frames.

        Returns:
            0-d tensors: "loss" (weighted sum), then contrast_loss, contrast_accuracy,
            audio_spread, video_spread, reconstruct_loss, audio_reconstruct_loss,
            video_reconstruct_loss.
        """
        masks = (plan.audio_mask, plan.video_mask)
        output = self.model.forward_masked(batch["logmel"], batch["frames"], *masks)
        values = self._contrast(output.audio_BD, output.video_BD, plan)
        values |= reconstruction_losses(
            self.model.config, batch, output.audio_BLP, output.video_BLP, masks
        )
        contrast, reconstruct = values["contrast_loss"], values["reconstruct_loss"]
        loss = self.contrast_weight * contrast + self.reconstruct_weight * reconstruct
        return {"loss": loss, **values}

    def _contrast(self, audio_BD: Tensor, video_BD: Tensor, plan: MaskPlan) -> dict[str, Tensor]:
        """Contrast one feature per clip: 0-d tensors, see ``contrastive_loss``."""
        return scoped_contrastive_loss(
            audio_BD,
            video_BD,
            temperature=self.temperature,
            direction=self.contrast_direction,
            scope=self.contrast_scope,
            negative_mask_NN=plan.negative_mask_NN,
        )
