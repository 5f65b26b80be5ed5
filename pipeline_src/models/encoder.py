"""The shared ViT of AVSiam: one stack of blocks for audio and for video.

AVSiam (arXiv:2403.19638). Extension: with ``num_frames`` > 1 the tokens of several ordered frames
are one sequence, told apart by a learned position per frame that starts at zero; one frame is
the published method and has no such parameter.

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, L tokens, D embed_dim.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline_src.architectures import AVSiamConfig
from pipeline_src.models.layers import FINAL_NORM_EPS, Block, Modality
from pipeline_src.models.patch_embed import logmel_to_image, make_patch_embed
from pipeline_src.models.pos_embed import sincos_2d


class SharedViT(nn.Module):
    """Patch embeddings, positions and final norms per modality around shared blocks."""

    def __init__(self, config: AVSiamConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.patch_embed = make_patch_embed(
            (config.img_size, config.img_size),
            (config.patch_size, config.patch_size),
            in_chans=3,
            embed_dim=dim,
        )
        self.patch_embed_a = make_patch_embed(
            (config.num_mel_bins, config.target_length),
            config.audio_patch,
            in_chans=1,
            embed_dim=dim,
        )
        self.pos_embed = nn.Parameter(sincos_2d(self.patch_embed.grid_size, dim))
        self.pos_embed_a = nn.Parameter(sincos_2d(self.patch_embed_a.grid_size, dim))
        if config.num_frames > 1:
            self.temporal_embed = nn.Parameter(torch.zeros(1, config.num_frames, 1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, norms=("audio", "video"))
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=FINAL_NORM_EPS)
        self.norm_a = nn.LayerNorm(dim, eps=FINAL_NORM_EPS)
        self.grad_checkpointing = False

    def embed_audio(self, logmel_BTM: Tensor) -> Tensor:
        """Embed log-mels as tokens (B, L, D), token = f * Tp + t, positions added."""
        expected = (self.config.target_length, self.config.num_mel_bins)
        if tuple(logmel_BTM.shape[1:]) != expected:
            raise ValueError(
                f"logmel of shape {tuple(logmel_BTM.shape)}: the model was built for "
                f"(B, target_length={expected[0]}, num_mel_bins={expected[1]})"
            )
        return self._scale(self.patch_embed_a(logmel_to_image(logmel_BTM)) + self.pos_embed_a)

    def embed_video(self, frames_BFCHW: Tensor) -> Tensor:
        """Embed exactly ``num_frames`` frames as tokens (B, F * L per frame, D), frame by frame."""
        num_frames, side = self.config.num_frames, self.config.img_size
        if tuple(frames_BFCHW.shape[1:]) != (num_frames, 3, side, side):
            raise ValueError(
                f"frames of shape {tuple(frames_BFCHW.shape)}: the model was built for "
                f"(B, num_frames={num_frames}, 3, img_size={side}, img_size={side})"
            )
        x_NLD = self.patch_embed(frames_BFCHW.flatten(0, 1)) + self.pos_embed
        x_BFLD = x_NLD.unflatten(0, (-1, num_frames))
        if num_frames > 1:
            x_BFLD = x_BFLD + self.temporal_embed
        return self._scale(x_BFLD.flatten(1, 2))

    def _scale(self, x_BLD: Tensor) -> Tensor:
        return 2 * x_BLD if self.config.double_input else x_BLD

    def forward(self, x_BLD: Tensor, modality: Modality) -> Tensor:
        """Run the blocks with the norms of ``modality``, then its final norm."""
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x_BLD = checkpoint(block, x_BLD, modality, use_reentrant=False)  # type: ignore[assignment]
            else:
                x_BLD = block(x_BLD, modality)
        return self.norm_a(x_BLD) if modality == "audio" else self.norm(x_BLD)
