"""The decoder of AVSiam's reconstruction pass, and pictures of what it reconstructs.

AVSiam (arXiv:2403.19638). Published names carry the prefix ``decoder_`` or are ``mask_token``; here
they are children of ``decoder`` (``decoder_blocks.0`` is ``decoder.blocks.0``): a plain renaming.

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, L tokens (La, Lv), K kept
tokens of both modalities, D encoder width, P patch vector.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline_src.architectures import AVSiamConfig
from pipeline_src.models.layers import BLOCK_NORM_EPS, Block
from pipeline_src.models.masking import gather_tokens
from pipeline_src.models.patch_embed import (
    PatchSize,
    image_to_logmel,
    logmel_to_image,
    normalise_patches,
    patchify,
    unpatchify,
)
from pipeline_src.models.pos_embed import sincos_2d


class Reconstruction(NamedTuple):
    """Inputs with hidden patches predicted, and where they were hidden (True = hidden).

    Shapes: (B, T, M), (B, T, M) bool, (B, F, 3, H, W), (B, F, 3, H, W) bool; a remainder smaller
    than one patch is cut off.
    """

    audio: Tensor
    audio_is_masked: Tensor
    video: Tensor
    video_is_masked: Tensor


class Decoder(nn.Module):
    """Fused kept tokens and mask tokens in, one vector per patch out."""

    def __init__(
        self, config: AVSiamConfig, audio_grid: tuple[int, int], video_grid: tuple[int, int]
    ) -> None:
        super().__init__()
        dim = config.decoder_embed_dim
        audio_pos, video_pos = sincos_2d(audio_grid, dim), sincos_2d(video_grid, dim)
        if config.decoder_pos_init == "zeros":
            audio_pos, video_pos = torch.zeros_like(audio_pos), torch.zeros_like(video_pos)
        self.num_frames = config.num_frames
        self.embed = nn.Linear(config.embed_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed_a = nn.Parameter(audio_pos)
        self.pos_embed_v = nn.Parameter(video_pos)
        self.modality_a = nn.Parameter(torch.zeros(1, 1, dim))
        self.modality_v = nn.Parameter(torch.zeros(1, 1, dim))
        if config.num_frames > 1:
            self.temporal_embed = nn.Parameter(torch.zeros(1, config.num_frames, 1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, config.decoder_num_heads, config.mlp_ratio, norms=("plain",))
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.pred_a = nn.Linear(dim, config.audio_patch[0] * config.audio_patch[1])
        self.pred_v = nn.Linear(dim, config.patch_size**2 * 3)

    def forward(
        self,
        audio_BKD: Tensor,
        video_BKD: Tensor,
        audio_restore_BL: Tensor,
        video_restore_BL: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode the fused kept tokens into predictions (B, La, P) and (B, Lv, P)."""
        audio_BLD = self._restore(audio_BKD, audio_restore_BL) + self.pos_embed_a + self.modality_a
        video_BLD = self._restore(video_BKD, video_restore_BL) + self._video_positions()
        x_BLD = torch.cat([audio_BLD, video_BLD + self.modality_v], dim=1)
        for block in self.blocks:
            x_BLD = block(x_BLD, "plain")
        x_BLD = self.norm(x_BLD)
        num_audio = audio_BLD.shape[1]
        return self.pred_a(x_BLD[:, :num_audio]), self.pred_v(x_BLD[:, num_audio:])

    def _restore(self, kept_BKD: Tensor, ids_restore_BL: Tensor) -> Tensor:
        """Append mask tokens and undo the shuffle: (B, L, decoder width)."""
        kept = self.embed(kept_BKD)
        num_hidden = ids_restore_BL.shape[1] - kept.shape[1]
        hidden = self.mask_token.to(kept.dtype).expand(kept.shape[0], num_hidden, -1)
        return gather_tokens(torch.cat([kept, hidden], dim=1), ids_restore_BL)

    def _video_positions(self) -> Tensor:
        if self.num_frames == 1:
            return self.pos_embed_v
        return (self.pos_embed_v[:, None] + self.temporal_embed).flatten(1, 2)


def audio_patches(config: AVSiamConfig, logmel_BTM: Tensor) -> Tensor:
    """Cut log-mels into patch vectors in token order: (B, La, P)."""
    return patchify(logmel_to_image(logmel_BTM), config.audio_patch)


def video_patches(config: AVSiamConfig, frames_BFCHW: Tensor) -> Tensor:
    """Cut frames into patch vectors in token order: (B, Lv, P), frame by frame."""
    patches = patchify(frames_BFCHW.flatten(0, 1), (config.patch_size, config.patch_size))
    return patches.unflatten(0, (-1, frames_BFCHW.shape[1])).flatten(1, 2)


def picture_audio(
    config: AVSiamConfig, logmel_BTM: Tensor, pred_BLP: Tensor, is_masked_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """Put predictions into the hidden patches of log-mels; return them and the hidden cells."""
    rows, columns = (
        size // patch
        for size, patch in zip(
            (config.num_mel_bins, config.target_length), config.audio_patch, strict=True
        )
    )
    target = audio_patches(config, logmel_BTM)
    filled, hidden = _fill(target, pred_BLP, is_masked_BL, norm_pix=config.norm_pix_loss)
    grid = (rows, columns)
    return (
        image_to_logmel(unpatchify(filled, config.audio_patch, grid)),
        image_to_logmel(unpatchify(hidden, config.audio_patch, grid)),
    )


def picture_video(
    config: AVSiamConfig, frames_BFCHW: Tensor, pred_BLP: Tensor, is_masked_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """Put predictions into the hidden patches of frames; return them and the hidden pixels."""
    side = config.img_size // config.patch_size
    patch: PatchSize = (config.patch_size, config.patch_size)
    target = video_patches(config, frames_BFCHW)
    filled, hidden = _fill(target, pred_BLP, is_masked_BL, norm_pix=config.norm_pix_loss)
    per_frame = (-1, side * side)
    pictures = [
        unpatchify(x.unflatten(1, per_frame).flatten(0, 1), patch, (side, side)).unflatten(
            0, (-1, config.num_frames)
        )
        for x in (filled, hidden)
    ]
    return pictures[0], pictures[1]


def _fill(
    target_BLP: Tensor, pred_BLP: Tensor, is_masked_BL: Tensor, *, norm_pix: bool
) -> tuple[Tensor, Tensor]:
    if norm_pix:
        _, mean, std = normalise_patches(target_BLP)
        pred_BLP = pred_BLP * std + mean
    hidden = is_masked_BL[..., None].expand_as(target_BLP)
    return torch.where(hidden, pred_BLP, target_BLP), hidden
