"""AVSiam: one shared ViT for audio and video, two fusion layers, a decoder or three heads.

"Siamese Vision Transformers are Scalable Audio-Visual Learners" (arXiv:2403.19638). Parameters keep
the published names; dead ones (cls token, aliases, unused norms) do not exist here.

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, G groups of num_frames frames,
L tokens (La audio, Lv video), K kept tokens, D embed_dim, P patch vector, C classes.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline_src.methods.avsiam.config import AVSiamConfig
from pipeline_src.methods.avsiam.encoder import SeparateAudioViT, SharedViT
from pipeline_src.methods.common.blocks import Block, init_weights
from pipeline_src.methods.common.decoder import Decoder
from pipeline_src.methods.common.masking import Mask, MaskedChunk, gather_tokens
from pipeline_src.methods.common.network import AudioVisualModel, LayerId, init_heads, make_head
from pipeline_src.methods.common.packing import Packing
from pipeline_src.methods.common.registers import append_registers, drop_registers
from pipeline_src.modalities import Modality


class AVSiam(AudioVisualModel):
    """The network. ``num_classes`` = 0 builds the pre-training decoder, more builds the heads."""

    config: AVSiamConfig
    pretrain_prefixes: ClassVar[tuple[str, ...]] = ("decoder.", "ast_base.")

    def __init__(self, config: AVSiamConfig) -> None:
        super().__init__(config)
        dim = config.embed_dim
        self.vit_base = SharedViT(config)
        self.ast_base: SeparateAudioViT | None = None
        self.mm_layer_1 = Block(dim, config.num_heads, config.mlp_ratio, norms=("audio",))
        self.mm_layer_2 = Block(dim, config.num_heads, config.mlp_ratio, norms=("audio",))
        if config.num_classes:
            self.mlp_head_a = make_head(dim, config.num_classes)
            self.mlp_head = make_head(dim, config.num_classes)
            self.mlp_head_mm = make_head(2 * dim, config.num_classes)
        else:
            self._add_decoder(config)
        self.apply(init_weights)
        init_heads(self)
        self.init_copies()

    def _add_decoder(self, config: AVSiamConfig) -> None:
        self.decoder = Decoder(config)
        if config.decoder_pos_init == "zeros":
            nn.init.zeros_(self.decoder.pos_embed_a)
            nn.init.zeros_(self.decoder.pos_embed_v)
        if config.audio_vit == "separate":
            self.ast_base = SeparateAudioViT(config)

    def init_copies(self) -> tuple[str, ...]:
        """Start the fusion layers and the second audio ViT as copies; return their prefixes."""
        blocks = self.vit_base.audio_blocks
        sources = (blocks[-2 if self.config.fusion_init == "last_two" else -1], blocks[-1])
        for layer, block in zip((self.mm_layer_1, self.mm_layer_2), sources, strict=True):
            state = {k: v for k, v in block.state_dict().items() if "_v." not in k}
            layer.load_state_dict(state)
        if self.ast_base is not None:
            self.ast_base.copy_from(self.vit_base)
        return "mm_layer", "ast_base."

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks of the ViTs in the backward pass: less memory, more time."""
        self.vit_base.grad_checkpointing = enable
        if self.ast_base is not None:
            self.ast_base.grad_checkpointing = enable

    def layer_id(self, name: str) -> LayerId:
        """Place a parameter as ``AudioVisualModel.layer_id`` says."""
        for prefix, place in (("mlp_head", "head"), ("mm_layer", "fusion"), ("decoder", "decoder")):
            if name.startswith(prefix):
                return place  # type: ignore[return-value]
        block = re.match(r"(vit|ast)_base\.blocks(_a)?\.(\d+)\.", name)
        if block:
            return int(block[3]) + 1
        return self.config.depth if re.match(r"(vit|ast)_base\.norm", name) else 0

    def encode_audio(self, logmel_BTM: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode log-mels: (B, La, D) after the final norm, or (B, K, D) of the kept tokens."""
        return self._encode(self.vit_base.embed_audio(logmel_BTM), "audio", ids_keep)

    def encode_video(self, frames_BFCHW: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode frames: (B, G * Lv, D) after the final norm, or (B, K, D) of the kept tokens."""
        if ids_keep is not None:
            frames_BFCHW = self.single_group(frames_BFCHW)
        groups_BGFCHW = self.group_frames(frames_BFCHW)
        x_NLD = self.vit_base.embed_video(groups_BGFCHW.flatten(0, 1))
        x_NLD = self._encode(x_NLD, "video", ids_keep)
        return x_NLD.unflatten(0, (-1, groups_BGFCHW.shape[1])).flatten(1, 2)

    def _encode(self, x_BLD: Tensor, modality: Modality, ids_keep: Tensor | None) -> Tensor:
        """Encode embedded tokens: (B, L, D), or (B, K, D) of the kept ones."""
        if ids_keep is not None:
            x_BLD = gather_tokens(x_BLD, ids_keep)
        return self.vit_base(x_BLD, modality)

    def fuse(self, audio_BLD: Tensor, video_BLD: Tensor) -> Tensor:
        """Run the fusion layers over [audio; video] tokens: (B, La + Lv, D)."""
        x_BLD = torch.cat([audio_BLD, video_BLD], dim=1)
        return self.mm_layer_2(self.mm_layer_1(x_BLD, "audio"), "audio")

    def forward_contrast(
        self,
        logmel_BTM: Tensor,
        frames_BFCHW: Tensor,
        audio_chunks: Sequence[MaskedChunk],
        video_chunks: Sequence[MaskedChunk],
        *,
        packed: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Pool each clip over its kept tokens; nothing is padded.

        The chunks of a modality hold every clip once. Each runs as a dense batch of its own, or
        with ``packed`` all of both modalities as one batch of sequences of different lengths.

        Returns:
            Audio and video features (B, D), fp32, in clip order.
        """
        audio = _gather_chunks(self.vit_base.embed_audio(logmel_BTM), audio_chunks)
        video = _gather_chunks(self.vit_base.embed_video(frames_BFCHW), video_chunks)
        if packed and logmel_BTM.is_cuda and self.config.encoders == "shared":
            encoded = self._encode_packed(audio, video)
            audio, video = encoded[: len(audio)], encoded[len(audio) :]
        elif packed:  # other weights each, or a CPU, which has no kernel for both
            audio, video = self._encode_packed(audio, []), self._encode_packed([], video)
        else:
            audio = [self.vit_base(x_NKD, "audio") for x_NKD in audio]
            video = [self.vit_base(x_NKD, "video") for x_NKD in video]
        return _pool_chunks(audio, audio_chunks), _pool_chunks(video, video_chunks)

    def _encode_packed(self, audio: list[Tensor], video: list[Tensor]) -> list[Tensor]:
        """Encode dense groups (n, L, D) of audio, video or both as one batch of sequences."""
        sides = (self.vit_base.registers("audio"),) * len(audio)
        sides += (self.vit_base.registers("video"),) * len(video)
        groups = [append_registers(*pair) for pair in zip((*audio, *video), sides, strict=True)]
        x_TD = torch.cat([x_NLD.flatten(0, 1) for x_NLD in groups])
        sizes = _group_sizes(groups)
        packing = Packing(sizes[: len(audio)], sizes[len(audio) :], x_TD.device)
        encoded = packing.split(self.vit_base.forward_packed(x_TD, packing))
        return [drop_registers(*pair) for pair in zip(encoded, sides, strict=True)]

    def encode_visible(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> tuple[Tensor, Tensor]:
        """Encode the kept tokens of the reconstruction pass: (B, K, D) audio and video."""
        if self.ast_base is not None:
            audio_BLD = self.vit_base.embed_audio(logmel_BTM)
            kept_BKD = gather_tokens(audio_BLD, audio_mask.ids_keep)
            audio_BKD = self.ast_base(kept_BKD, self.vit_base.registers("audio"))
        else:
            audio_BKD = self.encode_audio(logmel_BTM, audio_mask.ids_keep)
        return audio_BKD, self.encode_video(frames_BFCHW, video_mask.ids_keep)

    def forward_reconstruct(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> tuple[Tensor, Tensor]:
        """Predict every patch from the kept ones: (B, La, P) audio, (B, Lv, P) video."""
        audio_BKD, video_BKD = self.encode_visible(logmel_BTM, frames_BFCHW, audio_mask, video_mask)
        return self.decoder(self.fuse(audio_BKD, video_BKD), audio_mask, video_mask)

    def score_one(self, x_NLD: Tensor, modality: Modality) -> Tensor:
        """Score a modality by its own head: (N, C)."""
        head = self.mlp_head_a if modality == "audio" else self.mlp_head
        return head(x_NLD.mean(1))

    def score_both(self, audio_NLD: Tensor, video_NLD: Tensor) -> Tensor:
        """Score the fused tokens by the head of both: (N, C)."""
        fused_NLD, num_audio = self.fuse(audio_NLD, video_NLD), audio_NLD.shape[1]
        pooled = (fused_NLD[:, :num_audio].mean(1), fused_NLD[:, num_audio:].mean(1))
        return self.mlp_head_mm(torch.cat(pooled, dim=1))


def _gather_chunks(x_BLD: Tensor, chunks: Sequence[MaskedChunk]) -> list[Tensor]:
    """Gather the kept tokens of each chunk's clips: (clips, K, D)."""
    return [gather_tokens(x_BLD[chunk.clip_ids], chunk.ids_keep) for chunk in chunks]


def _group_sizes(parts: Sequence[Tensor]) -> tuple[tuple[int, int], ...]:
    return tuple((part.shape[0], part.shape[1]) for part in parts)


def _pool_chunks(parts: Sequence[Tensor], chunks: Sequence[MaskedChunk]) -> Tensor:
    """Average over each sequence in fp32, in clip order: (B, D)."""
    pooled_BD = torch.cat([x_NKD.float().mean(1) for x_NKD in parts])
    return pooled_BD[torch.cat([chunk.clip_ids for chunk in chunks]).argsort()]
