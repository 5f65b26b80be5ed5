"""Encoders of MAViL (arXiv:2212.08071): one ViT with a class token per modality, and their fusion.

Positions are fixed sin-cos tables. Class tokens have none; they take part in attention, are never
masked and never pooled. LayerNorms use eps 1e-6 as MAE's (MAViL's is not known).

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, L tokens, K kept tokens,
D embed_dim.
"""

import torch
from torch import Tensor, nn

from pipeline_src.methods.common.blocks import FINAL_NORM_EPS, Block, run_blocks
from pipeline_src.methods.common.patch_embed import (
    PatchEmbed,
    TubeletEmbed,
    check_frames,
    check_logmel,
)
from pipeline_src.methods.common.pos_embed import sincos_2d, sincos_3d
from pipeline_src.methods.common.registers import make_registers
from pipeline_src.methods.mavil.config import MAViLConfig

NORM_EPS = FINAL_NORM_EPS


def _make_blocks(config: MAViLConfig, depth: int) -> nn.ModuleList:
    sizes = (config.embed_dim, config.num_heads, config.mlp_ratio)
    return nn.ModuleList(Block(*sizes, norms=("plain",), norm_eps=NORM_EPS) for _ in range(depth))


class ModalityEncoder(nn.Module):
    """A ViT over the patches of one modality."""

    pos_embed: Tensor

    def __init__(self, config: MAViLConfig, patch_embed: nn.Module, pos_embed_1LD: Tensor) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.register_buffer("pos_embed", pos_embed_1LD)
        self.blocks = _make_blocks(config, config.depth)
        self.norm = nn.LayerNorm(config.embed_dim, eps=NORM_EPS)
        self.register_tokens = make_registers(config) if config.num_registers else None
        self.grad_checkpointing = False

    def forward(self, x_BKD: Tensor) -> Tensor:
        """Encode embedded tokens: (B, 1 + K, D) after the final norm, the class token first."""
        cls_token = self.cls_token.expand(x_BKD.shape[0], -1, -1).to(x_BKD.dtype)
        x_BKD = torch.cat([cls_token, x_BKD], dim=1)
        x_BKD = run_blocks(
            self.blocks,
            x_BKD,
            "plain",
            recompute=self.grad_checkpointing,
            registers_RD=self.register_tokens,
        )
        return self.norm(x_BKD)


class AudioEncoder(ModalityEncoder):
    """Tokens ordered by time, then frequency, as are the values of a patch."""

    def __init__(self, config: MAViLConfig) -> None:
        patch_embed = PatchEmbed(config.audio_token_patch, in_chans=1, embed_dim=config.embed_dim)
        super().__init__(config, patch_embed, sincos_2d(config.audio_token_grid, config.embed_dim))

    def embed(self, logmel_BTM: Tensor) -> Tensor:
        """Embed log-mels with their positions: (B, L, D)."""
        check_logmel(self.config, logmel_BTM)
        return self.patch_embed(logmel_BTM[:, None]) + self.pos_embed


class VideoEncoder(ModalityEncoder):
    """Tokens ordered by time, row and column; a token is a tubelet of several frames."""

    def __init__(self, config: MAViLConfig) -> None:
        times = config.num_frames // config.tubelet_size
        positions = sincos_3d((times, *config.video_grid), config.embed_dim)
        patch_embed = TubeletEmbed(config.video_patch, embed_dim=config.embed_dim)
        super().__init__(config, patch_embed, positions)

    def embed(self, frames_BFCHW: Tensor) -> Tensor:
        """Embed exactly ``num_frames`` frames with their positions: (B, L, D)."""
        check_frames(self.config, frames_BFCHW)
        return self.patch_embed(frames_BFCHW) + self.pos_embed


class Fusion(nn.Module):
    """Blocks over the encoded tokens of both modalities, class tokens included."""

    def __init__(self, config: MAViLConfig) -> None:
        super().__init__()
        self.blocks = _make_blocks(config, config.fusion_depth)
        self.norm = nn.LayerNorm(config.embed_dim, eps=NORM_EPS)

    def forward(self, audio_BLD: Tensor, video_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse two sequences of tokens: (B, L, D) each, in their own shapes."""
        x_BLD = torch.cat([audio_BLD, video_BLD], dim=1)
        x_BLD = self.norm(run_blocks(self.blocks, x_BLD, "plain", recompute=False))
        sizes = [audio_BLD.shape[1], video_BLD.shape[1]]
        audio_BLD, video_BLD = x_BLD.split(sizes, dim=1)
        return audio_BLD, video_BLD
