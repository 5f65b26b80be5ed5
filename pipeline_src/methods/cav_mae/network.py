"""CAV-MAE: two encoders that meet in shared last blocks, a decoder or one head.

"Contrastive Audio-Visual Masked Autoencoder" (arXiv:2210.07839). Parameters keep the published
names; dead ones (norms that no pass reads) do not exist here. Deviation: several shared blocks are
chained, where the released loop feeds each the same input; with the published one it is the same.
Extension: ``num_frames`` > 1 as in ``avsiam/encoder.py``.

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, G groups of num_frames frames,
L tokens (La audio, Lv video), K kept tokens, D embed_dim, P patch vector, C classes.
"""

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline_src.methods.cav_mae.config import CAVMAEConfig
from pipeline_src.methods.common.blocks import (
    BLOCK_NORM_EPS,
    TOKEN_INIT_STD,
    Block,
    NormName,
    init_weights,
    run_blocks,
)
from pipeline_src.methods.common.decoder import Decoder
from pipeline_src.methods.common.masking import Mask, gather_tokens
from pipeline_src.methods.common.network import AudioVisualModel, LayerId, init_heads, make_head
from pipeline_src.methods.common.patch_embed import (
    PatchEmbed,
    check_frames,
    check_logmel,
    logmel_to_image,
)
from pipeline_src.methods.common.pos_embed import sincos_2d
from pipeline_src.methods.common.registers import make_registers, modality_registers
from pipeline_src.modalities import Modality

SHARED_NORMS: tuple[NormName, ...] = ("plain", "audio", "video")


class MaskedOutput(NamedTuple):
    """One pass of pre-training: pooled features (B, D), fp32, and predictions (B, L, P)."""

    audio_BD: Tensor
    video_BD: Tensor
    audio_BLP: Tensor
    video_BLP: Tensor


class CAVMAE(AudioVisualModel):
    """The network. ``num_classes`` = 0 builds the pre-training decoder, more builds the head.

    Positions are fixed in pre-training and trainable in fine-tuning, as published.
    """

    config: CAVMAEConfig

    def __init__(self, config: CAVMAEConfig) -> None:
        super().__init__(config)
        self._add_embeddings(config)
        depth = config.modality_specific_depth
        self.blocks_a = _make_blocks(config, depth, norms=("plain",))
        self.blocks_v = _make_blocks(config, depth, norms=("plain",))
        self.blocks_u = _make_blocks(config, config.shared_depth, norms=SHARED_NORMS)
        self.norm = nn.LayerNorm(config.embed_dim, eps=BLOCK_NORM_EPS)
        self.norm_a = nn.LayerNorm(config.embed_dim, eps=BLOCK_NORM_EPS)
        self.norm_v = nn.LayerNorm(config.embed_dim, eps=BLOCK_NORM_EPS)
        self.grad_checkpointing = False
        if config.num_registers:
            self.register_tokens = make_registers(config, num_modalities=2)
        self._add_outputs(config)
        self.apply(init_weights)
        init_heads(self)
        self._init_tokens()

    def _add_outputs(self, config: CAVMAEConfig) -> None:
        """Build what follows the encoder: the decoder, or the head."""
        if config.num_classes:
            self.mlp_head = make_head(config.embed_dim, config.num_classes)
        else:
            self.decoder = Decoder(config)

    def _add_embeddings(self, config: CAVMAEConfig) -> None:
        dim = config.embed_dim
        self.patch_embed_a = PatchEmbed(config.audio_patch, in_chans=1, embed_dim=dim)
        self.patch_embed_v = PatchEmbed(
            (config.patch_size, config.patch_size), in_chans=3, embed_dim=dim
        )
        is_trainable = config.num_classes > 0
        self.pos_embed_a = nn.Parameter(sincos_2d(config.audio_grid, dim), is_trainable)
        self.pos_embed_v = nn.Parameter(sincos_2d(config.video_grid, dim), is_trainable)
        self.modality_a = nn.Parameter(torch.zeros(1, 1, dim))
        self.modality_v = nn.Parameter(torch.zeros(1, 1, dim))
        if config.num_frames > 1:
            self.temporal_embed = nn.Parameter(torch.zeros(1, config.num_frames, 1, dim))

    def _init_tokens(self) -> None:
        tokens = [self.modality_a, self.modality_v]
        if not self.config.num_classes:
            self.decoder.pos_embed_a.requires_grad_(False)
            self.decoder.pos_embed_v.requires_grad_(False)
            tokens += [self.decoder.modality_a, self.decoder.modality_v, self.decoder.mask_token]
        for token in tokens:
            nn.init.normal_(token, std=TOKEN_INIT_STD)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the encoder's blocks in the backward pass: less memory, more time."""
        self.grad_checkpointing = enable

    def layer_id(self, name: str) -> LayerId:
        """Place a parameter as ``AudioVisualModel.layer_id`` says; there is no fusion layer."""
        if name.startswith("mlp_head"):
            return "head"
        if name.startswith("decoder"):
            return "decoder"
        block = re.match(r"blocks_([avu])\.(\d+)\.", name)
        if block:
            before = self.config.modality_specific_depth if block[1] == "u" else 0
            return before + int(block[2]) + 1
        return self.config.depth if name.startswith("norm") else 0

    def encode_audio(self, logmel_BTM: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode log-mels: (B, La, D) after the final norm, or (B, K, D) of the kept tokens."""
        return self._encode(self._branch_audio(logmel_BTM, ids_keep), "audio")

    def encode_video(self, frames_BFCHW: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode frames: (B, G * Lv, D) after the final norm, or (B, K, D) of the kept tokens."""
        if ids_keep is not None:
            return self._encode(
                self._branch_video(self.single_group(frames_BFCHW), ids_keep), "video"
            )
        groups_BGFCHW = self.group_frames(frames_BFCHW)
        x_NLD = self._encode(self._branch_video(groups_BGFCHW.flatten(0, 1)), "video")
        return x_NLD.unflatten(0, (-1, groups_BGFCHW.shape[1])).flatten(1, 2)

    def _encode(self, x_BLD: Tensor, modality: Modality) -> Tensor:
        """Return patch tokens after the final norm (B, L, D), of what a branch returns."""
        return self._finish(x_BLD, modality)

    def _pool(self, x_BLD: Tensor) -> Tensor:
        """Return what is contrasted of finished tokens: (B, D), fp32."""
        return x_BLD.float().mean(1)

    def _branch_audio(self, logmel_BTM: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Embed log-mels and run the audio blocks: (B, La, D), or (B, K, D) of the kept tokens."""
        check_logmel(self.config, logmel_BTM)
        x_BLD = self.patch_embed_a(logmel_to_image(logmel_BTM)) + self.pos_embed_a + self.modality_a
        return self._run_own(x_BLD if ids_keep is None else gather_tokens(x_BLD, ids_keep), "audio")

    def _branch_video(self, frames_BFCHW: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Embed exactly ``num_frames`` frames and run the video blocks: (B, Lv or K, D)."""
        check_frames(self.config, frames_BFCHW)
        x_NLD = self.patch_embed_v(frames_BFCHW.flatten(0, 1)) + self.pos_embed_v + self.modality_v
        x_BFLD = x_NLD.unflatten(0, (-1, self.config.num_frames))
        if self.config.num_frames > 1:
            x_BFLD = x_BFLD + self.temporal_embed
        x_BLD = x_BFLD.flatten(1, 2)
        return self._run_own(x_BLD if ids_keep is None else gather_tokens(x_BLD, ids_keep), "video")

    def _run_own(self, x_BLD: Tensor, modality: Modality) -> Tensor:
        """Run the blocks of a modality alone, its registers beside the tokens: (B, L, D)."""
        return run_blocks(
            self.blocks_a if modality == "audio" else self.blocks_v,
            x_BLD,
            "plain",
            recompute=self.grad_checkpointing,
            registers_RD=modality_registers(self, self.config, modality),
        )

    def _finish(self, x_BLD: Tensor, norm: NormName) -> Tensor:
        """Run the shared blocks and the final norm of ``norm``, "plain" = joint: (B, L, D)."""
        final = {"audio": self.norm_a, "video": self.norm_v, "plain": self.norm}[norm]
        x_BLD = run_blocks(self.blocks_u, x_BLD, norm, recompute=self.grad_checkpointing)
        return final(x_BLD)

    def forward_masked(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> MaskedOutput:
        """Pool (B, D) and reconstruct (B, L, P) from the same kept tokens, for both losses."""
        audio_BKD = self._branch_audio(logmel_BTM, audio_mask.ids_keep)
        video_BKD = self._branch_video(self.single_group(frames_BFCHW), video_mask.ids_keep)
        predictions = self._decode(audio_BKD, video_BKD, audio_mask, video_mask)
        return MaskedOutput(
            self._pool(self._finish(audio_BKD, "audio")),
            self._pool(self._finish(video_BKD, "video")),
            *predictions,
        )

    def forward_reconstruct(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> tuple[Tensor, Tensor]:
        """Predict every patch from the kept ones: (B, La, P) audio, (B, Lv, P) video."""
        audio_BKD = self._branch_audio(logmel_BTM, audio_mask.ids_keep)
        video_BKD = self._branch_video(self.single_group(frames_BFCHW), video_mask.ids_keep)
        return self._decode(audio_BKD, video_BKD, audio_mask, video_mask)

    def _decode(
        self, audio_BKD: Tensor, video_BKD: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> tuple[Tensor, Tensor]:
        """Run the shared blocks on both and decode: (B, La, P) audio, (B, Lv, P) video."""
        joint_BKD = self._finish(torch.cat([audio_BKD, video_BKD], dim=1), "plain")
        return self.decoder(joint_BKD, audio_mask, video_mask)

    def head_tokens(self, inputs: Tensor, modality: Modality) -> Tensor:
        """Return the tokens of a modality's own blocks: (N, L, D)."""
        branch = self._branch_audio if modality == "audio" else self._branch_video
        return branch(inputs)

    def score_both(self, audio_NLD: Tensor, video_NLD: Tensor) -> Tensor:
        """Score both modalities, (N, C), by the one head that there is."""
        joint_NLD = self._finish(torch.cat([audio_NLD, video_NLD], dim=1), "plain")
        return self.mlp_head(joint_NLD.mean(1))

    def score_one(self, x_NLD: Tensor, modality: Modality) -> Tensor:
        """Score a modality alone, (N, C): with its own norms, or the mean with the joint ones."""
        pooled_ND = self._finish(x_NLD, modality).mean(1)
        if self.config.single_modality == "averaged":
            pooled_ND = (self._finish(x_NLD, "plain").mean(1) + pooled_ND) / 2
        return self.mlp_head(pooled_ND)


def _make_blocks(config: CAVMAEConfig, depth: int, *, norms: tuple[NormName, ...]) -> nn.ModuleList:
    return nn.ModuleList(
        Block(config.embed_dim, config.num_heads, config.mlp_ratio, norms=norms)
        for _ in range(depth)
    )
