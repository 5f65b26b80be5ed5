"""AVSiam pre-training: contrast over several mask ratios, then reconstruction.

AVSiam (arXiv:2403.19638): two passes per batch, one optimiser step each; ``joint_step`` sums both
losses for one step. The module is what DDP wraps; masks are drawn outside its forward.

Shape legend: B clips, T log-mel frames, M mel bins, F video frames, L tokens (La audio, Lv video),
N clips of all ranks.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pipeline_src.methods.avsiam.network import AVSiam
from pipeline_src.methods.common.contrast import Direction, Scope, scoped_contrastive_loss
from pipeline_src.methods.common.masking import (
    AudioMask,
    Mask,
    MaskedChunk,
    draw_noise,
    mask_from_noise,
    split_batch,
    structured_noise,
)
from pipeline_src.methods.common.ratios import MaskRatios
from pipeline_src.methods.common.reconstruction import reconstruction_losses

PretrainPass = Literal["joint", "contrast", "reconstruct"]
PackSequences = Literal["auto", "always", "never"]
NoiseDraw = Callable[[int, float, torch.Generator], Tensor]


class PretrainPlan(NamedTuple):
    """Every random choice of one step."""

    audio_chunks: tuple[MaskedChunk, ...]
    video_chunks: tuple[MaskedChunk, ...]
    audio_mask: Mask
    video_mask: Mask
    negative_mask_NN: Tensor | None = None  # see ``sample_negatives``


class AVSiamPretrain(nn.Module):
    """Both pre-training losses of a network.

    ``passes`` lists the forward passes of one batch, each with an optimiser step of its own. A loss
    of weight 0 is not computed.

    Args:
        model: built with ``num_classes=0``.
        audio_mask: structure of the audio masks in the contrastive pass; the others have none.
        pack_sequences: run the chunks of the contrastive pass as one batch; "auto" = on a GPU.
    """

    def __init__(
        self,
        model: AVSiam,
        *,
        contrast_direction: Direction,
        contrast_scope: Scope,
        contrast_weight: float,
        temperature: float,
        reconstruct_weight: float,
        audio_mask: AudioMask,
        joint_step: bool,
        pack_sequences: PackSequences,
    ) -> None:
        super().__init__()
        self.model = model
        self.contrast_direction: Direction = contrast_direction
        self.contrast_scope: Scope = contrast_scope
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.reconstruct_weight = reconstruct_weight
        self.audio_mask: AudioMask = audio_mask
        self.pack_sequences: PackSequences = pack_sequences
        weights: dict[PretrainPass, float] = {
            "contrast": contrast_weight,
            "reconstruct": reconstruct_weight,
        }
        separate: tuple[PretrainPass, ...] = tuple(
            name for name, weight in weights.items() if weight > 0
        )
        self.passes: tuple[PretrainPass, ...] = ("joint",) if joint_step else separate

    @property
    def find_unused_parameters(self) -> bool:
        """Whether a pass leaves parameters without gradient.

        Contrast skips fusion and decoder; reconstruction skips the shared encoder's norms of
        audio where audio has an encoder of its own for it.
        """
        has_own_audio = self.model.config.audio_vit == "separate"
        reconstructs_apart = has_own_audio and self.contrast_weight == 0
        return "contrast" in self.passes or self.reconstruct_weight == 0 or reconstructs_apart

    def draw(
        self,
        batch_size: int,
        ratios: MaskRatios,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        negative_mask_NN: Tensor | None = None,
    ) -> PretrainPlan:
        """Draw the masks of one step with ``generator`` and move them to ``device``.

        Audio and video chunks come from two permutations, so that the two sides of a clip usually
        have different ratios.
        """
        device = torch.device(device)
        audio_chunks = self._draw_chunks(batch_size, ratios, self._audio_noise, generator)
        video_chunks = self._draw_chunks(batch_size, ratios, self._video_noise, generator)
        audio_mask, video_mask = (
            mask_from_noise(draw_noise(batch_size, num_tokens, generator), ratio)
            for num_tokens, ratio in (
                (self.model.num_audio_tokens, ratios.audio),
                (self.model.num_video_tokens, ratios.video),
            )
        )
        return PretrainPlan(
            tuple(chunk.to(device) for chunk in audio_chunks),
            tuple(chunk.to(device) for chunk in video_chunks),
            audio_mask.to(device),
            video_mask.to(device),
            negative_mask_NN,
        )

    def _draw_chunks(
        self, batch_size: int, ratios: MaskRatios, draw: NoiseDraw, generator: torch.Generator
    ) -> list[MaskedChunk]:
        """Split the clips into a chunk a ratio, empty ones left out, and mask each chunk."""
        clips_per_ratio = split_batch(batch_size, len(ratios.listed), generator)
        return [
            MaskedChunk(
                clip_ids, mask_from_noise(draw(len(clip_ids), ratio, generator), ratio).ids_keep
            )
            for clip_ids, ratio in zip(clips_per_ratio, ratios.listed, strict=True)
            if len(clip_ids)
        ]

    def _audio_noise(self, num_clips: int, ratio: float, generator: torch.Generator) -> Tensor:
        """Draw the noise of structured audio masks: (B, La)."""
        return structured_noise(
            num_clips,
            self.model.audio_grid,
            ratio,
            structure=self.audio_mask,
            generator=generator,
        )

    def _video_noise(self, num_clips: int, ratio: float, generator: torch.Generator) -> Tensor:
        """Draw the noise of unstructured video masks: (B, Lv)."""
        del ratio  # unstructured: the ratio only sets how many tokens are kept
        return draw_noise(num_clips, self.model.num_video_tokens, generator)

    def forward(
        self, batch: dict[str, Tensor], plan: PretrainPlan, step_pass: PretrainPass
    ) -> dict[str, Tensor]:
        """Compute the losses of one pass.

        Args:
            batch: "logmel" (B, T, M) and "frames" (B, F, 3, H, W), F = the model's num_frames.

        Returns:
            0-d tensors: "loss" (weighted sum of the pass), then what was computed:
            contrast_loss, contrast_accuracy, audio_spread, video_spread, reconstruct_loss,
            audio_reconstruct_loss, video_reconstruct_loss.
        """
        values: dict[str, Tensor] = {}
        loss = torch.zeros((), device=batch["logmel"].device)
        if step_pass in ("joint", "contrast") and self.contrast_weight > 0:
            values |= self._contrast(batch, plan)
            loss = loss + self.contrast_weight * values["contrast_loss"]
        if step_pass in ("joint", "reconstruct") and self.reconstruct_weight > 0:
            values |= self._reconstruct(batch, plan)
            loss = loss + self.reconstruct_weight * values["reconstruct_loss"]
        return {"loss": loss, **values}

    def _contrast(self, batch: dict[str, Tensor], plan: PretrainPlan) -> dict[str, Tensor]:
        """Compute the values of ``contrastive_loss``, 0-d, on the masked chunks."""
        on_gpu = batch["logmel"].is_cuda
        is_packed = {"always": True, "never": False, "auto": on_gpu}[self.pack_sequences]
        audio_BD, video_BD = self.model.forward_contrast(
            batch["logmel"],
            batch["frames"],
            plan.audio_chunks,
            plan.video_chunks,
            packed=is_packed,
        )
        return scoped_contrastive_loss(
            audio_BD,
            video_BD,
            temperature=self.temperature,
            direction=self.contrast_direction,
            scope=self.contrast_scope,
            negative_mask_NN=plan.negative_mask_NN,
        )

    def _reconstruct(self, batch: dict[str, Tensor], plan: PretrainPlan) -> dict[str, Tensor]:
        """Compute the values of ``reconstruction_losses``, 0-d."""
        masks = (plan.audio_mask, plan.video_mask)
        predictions = self.model.forward_reconstruct(batch["logmel"], batch["frames"], *masks)
        return reconstruction_losses(self.model.config, batch, *predictions, masks)
