"""The shared ViT of AVSiam: one stack of blocks for audio and for video.

AVSiam (arXiv:2403.19638). With ``encoders: separate``, the paper's ablation, audio has a stack of
its own. Extension: with ``num_frames`` > 1 the tokens of several ordered frames
are one sequence, told apart by a learned position per frame that starts at zero; one frame is
the published method and has no such parameter.

Shape legend: B batch, T log-mel frames (before D: packed tokens), M mel bins, F video frames,
L tokens, D embed_dim.
"""

import torch
from torch import Tensor, nn

from pipeline_src.methods.avsiam.config import AVSiamConfig
from pipeline_src.methods.common.blocks import FINAL_NORM_EPS, Block, NormName, run_blocks
from pipeline_src.methods.common.packing import Packing
from pipeline_src.methods.common.patch_embed import (
    PatchEmbed,
    check_frames,
    check_logmel,
    logmel_to_image,
)
from pipeline_src.methods.common.pos_embed import sincos_2d
from pipeline_src.methods.common.registers import make_registers, modality_registers
from pipeline_src.modalities import MODALITIES, Modality


class SharedViT(nn.Module):
    """Patch embeddings, positions and final norms per modality around shared blocks."""

    def __init__(self, config: AVSiamConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.patch_embed = PatchEmbed(
            (config.patch_size, config.patch_size), in_chans=3, embed_dim=dim
        )
        self.patch_embed_a = PatchEmbed(config.audio_patch, in_chans=1, embed_dim=dim)
        self.pos_embed = nn.Parameter(sincos_2d(config.video_grid, dim))
        self.pos_embed_a = nn.Parameter(sincos_2d(config.audio_grid, dim))
        if config.num_frames > 1:
            self.temporal_embed = nn.Parameter(torch.zeros(1, config.num_frames, 1, dim))
        if config.encoders == "separate":
            self.blocks = _make_blocks(config, norms=("video",))
            self.blocks_a = _make_blocks(config, norms=("audio",))
        else:
            self.blocks = _make_blocks(config, norms=MODALITIES)
        if config.num_registers:
            self.register_tokens = make_registers(config, num_modalities=2)
        self.norm = nn.LayerNorm(dim, eps=FINAL_NORM_EPS)
        self.norm_a = nn.LayerNorm(dim, eps=FINAL_NORM_EPS)
        self.grad_checkpointing = False

    def embed_audio(self, logmel_BTM: Tensor) -> Tensor:
        """Embed log-mels as tokens (B, L, D), token = f * Tp + t, positions added."""
        check_logmel(self.config, logmel_BTM)
        return self._scale(self.patch_embed_a(logmel_to_image(logmel_BTM)) + self.pos_embed_a)

    def embed_video(self, frames_BFCHW: Tensor) -> Tensor:
        """Embed exactly ``num_frames`` frames as tokens (B, F * L per frame, D), frame by frame."""
        check_frames(self.config, frames_BFCHW)
        x_NLD = self.patch_embed(frames_BFCHW.flatten(0, 1)) + self.pos_embed
        x_BFLD = x_NLD.unflatten(0, (-1, self.config.num_frames))
        if self.config.num_frames > 1:
            x_BFLD = x_BFLD + self.temporal_embed
        return self._scale(x_BFLD.flatten(1, 2))

    def _scale(self, x_BLD: Tensor) -> Tensor:
        """Double the input as the released code does, or leave it: (B, L, D)."""
        return 2 * x_BLD if self.config.double_input else x_BLD

    @property
    def audio_blocks(self) -> nn.ModuleList:
        """The blocks that audio passes."""
        return self.blocks_a if self.config.encoders == "separate" else self.blocks

    def forward(self, x_BLD: Tensor, modality: Modality) -> Tensor:
        """Run the blocks with the norms of ``modality``, then its final norm: (B, L, D)."""
        x_BLD = run_blocks(
            self.audio_blocks if modality == "audio" else self.blocks,
            x_BLD,
            modality,
            recompute=self.grad_checkpointing,
            registers_RD=self.registers(modality),
        )
        return self.norm_a(x_BLD) if modality == "audio" else self.norm(x_BLD)

    def registers(self, modality: Modality) -> Tensor | None:
        """Return tokens beside those of every sequence of a modality: (R, D), if there are any."""
        return modality_registers(self, self.config, modality)

    def forward_packed(self, x_TD: Tensor, packing: Packing) -> Tensor:
        """Run sequences of any lengths as one batch, each with its modality's norms: (T, D).

        With ``encoders: separate`` the batch must hold one modality.
        """
        blocks = self.audio_blocks if packing.only_modality == "audio" else self.blocks
        x_TD = run_blocks(blocks, x_TD, packing, recompute=self.grad_checkpointing)
        norms = {"audio": self.norm_a, "video": self.norm}
        if packing.only_modality:
            return norms[packing.only_modality](x_TD)
        audio_TD, video_TD = x_TD.split(packing.modality_sizes)
        return torch.cat([self.norm_a(audio_TD), self.norm(video_TD)])


class SeparateAudioViT(nn.Module):
    """The second ViT of the released base code: audio blocks of the reconstruction pass.

    It has no embedding of its own and uses the norms that the shared ViT leaves unused.
    """

    def __init__(self, config: AVSiamConfig) -> None:
        super().__init__()
        self.blocks = _make_blocks(config, norms=("plain",))
        self.norm_a = nn.LayerNorm(config.embed_dim, eps=FINAL_NORM_EPS)
        self.grad_checkpointing = False

    def copy_from(self, vit: SharedViT) -> None:
        """Start as the shared ViT with its audio norms: both begin as one image network."""
        source = {key.replace("_a.", "."): value for key, value in vit.blocks.state_dict().items()}
        self.blocks.load_state_dict({key: source[key] for key in self.blocks.state_dict()})
        self.norm_a.load_state_dict(vit.norm_a.state_dict())

    def forward(self, x_BLD: Tensor, registers_RD: Tensor | None = None) -> Tensor:
        """Run the blocks over embedded audio tokens, then the final norm: (B, L, D).

        Args:
            registers_RD: of audio, which belong to the shared ViT.
        """
        x_BLD = run_blocks(
            self.blocks,
            x_BLD,
            "plain",
            recompute=self.grad_checkpointing,
            registers_RD=registers_RD,
        )
        return self.norm_a(x_BLD)


def _make_blocks(config: AVSiamConfig, *, norms: tuple[NormName, ...]) -> nn.ModuleList:
    return nn.ModuleList(
        Block(config.embed_dim, config.num_heads, config.mlp_ratio, norms=norms)
        for _ in range(config.depth)
    )
