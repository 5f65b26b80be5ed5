"""AVSiam: one shared ViT for audio and video, two fusion layers, a decoder or three heads.

"Siamese Vision Transformers are Scalable Audio-Visual Learners" (arXiv:2403.19638). Parameters keep
the published names; dead ones (cls token, aliases, unused norms) do not exist here.

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, G groups of num_frames frames,
L tokens (La audio, Lv video), K kept tokens, D embed_dim, P patch vector, C classes.
"""

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline_src.architectures import AVSiamConfig
from pipeline_src.models.decoder import Decoder, Reconstruction, picture_audio, picture_video
from pipeline_src.models.encoder import SharedViT
from pipeline_src.models.layers import Block, Modality, init_weights
from pipeline_src.models.masking import Mask, MaskedChunk, gather_tokens

HEAD_INIT_STD = 0.02
LayerId = int | Literal["head", "fusion", "decoder"]


class AVSiam(nn.Module):
    """The network. ``num_classes`` = 0 builds the pre-training decoder, more builds the heads."""

    def __init__(self, config: AVSiamConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.vit_base = SharedViT(config)
        self.mm_layer_1 = Block(dim, config.num_heads, config.mlp_ratio, norms=("audio",))
        self.mm_layer_2 = Block(dim, config.num_heads, config.mlp_ratio, norms=("audio",))
        if config.num_classes:
            self.mlp_head_a = _make_head(dim, config.num_classes)
            self.mlp_head = _make_head(dim, config.num_classes)
            self.mlp_head_mm = _make_head(2 * dim, config.num_classes)
        else:
            self.decoder = Decoder(config, self.audio_grid, self.video_grid)
        self.apply(init_weights)
        self._init_heads()
        self.init_fusion()

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Rows (frequency) and columns (time) of audio tokens."""
        return self.vit_base.patch_embed_a.grid_size  # type: ignore[return-value]

    @property
    def video_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of one frame."""
        return self.vit_base.patch_embed.grid_size  # type: ignore[return-value]

    @property
    def num_audio_tokens(self) -> int:
        """La."""
        return self.audio_grid[0] * self.audio_grid[1]

    @property
    def num_video_tokens(self) -> int:
        """Lv: tokens of num_frames frames."""
        return self.config.num_frames * self.video_grid[0] * self.video_grid[1]

    def init_fusion(self) -> None:
        """Start the fusion layers as copies of the last shared blocks, with their audio norms."""
        blocks = self.vit_base.blocks
        sources = (blocks[-2 if self.config.fusion_init == "last_two" else -1], blocks[-1])
        for layer, block in zip((self.mm_layer_1, self.mm_layer_2), sources, strict=True):
            state = {k: v for k, v in block.state_dict().items() if "_v." not in k}
            layer.load_state_dict(state)

    def _init_heads(self) -> None:
        """Start the heads near zero, so that training starts near chance."""
        for name, parameter in self.named_parameters():
            if self.layer_id(name) == "head" and parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=HEAD_INIT_STD)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the shared blocks in the backward pass: less memory, more time."""
        self.vit_base.grad_checkpointing = enable

    def layer_id(self, name: str) -> LayerId:
        """Place a parameter: "head", "fusion", "decoder", or its depth.

        Depth 0 is the embeddings, n + 1 block n; the final norms count with the last block.
        """
        for prefix, place in (("mlp_head", "head"), ("mm_layer", "fusion"), ("decoder", "decoder")):
            if name.startswith(prefix):
                return place  # type: ignore[return-value]
        block = re.match(r"vit_base\.blocks\.(\d+)\.", name)
        if block:
            return int(block[1]) + 1
        return self.config.depth if name.startswith("vit_base.norm") else 0

    def encode_audio(self, logmel_BTM: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode log-mels: (B, La, D) after the final norm, or (B, K, D) of the kept tokens."""
        return self._encode(self.vit_base.embed_audio(logmel_BTM), "audio", ids_keep)

    def encode_video(self, frames_BFCHW: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode frames: (B, G * Lv, D) after the final norm, or (B, K, D) of the kept tokens.

        More than ``num_frames`` frames are encoded in G = F // num_frames groups, each a sequence
        of its own that spans the clip; ``ids_keep`` needs exactly ``num_frames`` frames.
        """
        groups_BGFCHW = self.group_frames(frames_BFCHW)
        if ids_keep is not None and groups_BGFCHW.shape[1] > 1:
            raise ValueError(
                f"masks need exactly num_frames={self.config.num_frames} frames, "
                f"got {frames_BFCHW.shape[1]}"
            )
        x_NLD = self.vit_base.embed_video(groups_BGFCHW.flatten(0, 1))
        x_NLD = self._encode(x_NLD, "video", ids_keep)
        return x_NLD.unflatten(0, (-1, groups_BGFCHW.shape[1])).flatten(1, 2)

    def group_frames(self, frames_BFCHW: Tensor) -> Tensor:
        """Split F frames into time-interleaved groups (B, G, num_frames, 3, H, W).

        Where num_frames does not divide F, the frames left out are spread over the clip.
        """
        total, size = frames_BFCHW.shape[1], self.config.num_frames
        if total < size:
            raise ValueError(f"{total} frames: the model was built for num_frames={size}")
        num_groups = total // size
        positions = torch.arange(size * num_groups).view(size, num_groups).T
        index_GF = (2 * positions + 1) * total // (2 * size * num_groups)
        return frames_BFCHW[:, index_GF.to(frames_BFCHW.device)]

    def _encode(self, x_BLD: Tensor, modality: Modality, ids_keep: Tensor | None) -> Tensor:
        if ids_keep is not None:
            x_BLD = gather_tokens(x_BLD, ids_keep)
        return self.vit_base(x_BLD, modality)

    def fuse(self, audio_BLD: Tensor, video_BLD: Tensor) -> Tensor:
        """Run the fusion layers over [audio; video] tokens: (B, La + Lv, D)."""
        x_BLD = torch.cat([audio_BLD, video_BLD], dim=1)
        return self.mm_layer_2(self.mm_layer_1(x_BLD, "audio"), "audio")

    def embed(self, audio: Tensor | None = None, video: Tensor | None = None) -> dict[str, Tensor]:
        """Pool each given modality's unmasked tokens for retrieval, probes and maps.

        Returns:
            "audio" and/or "video": (B, D) means over tokens, fp32, not L2-normalised.
        """
        pooled = {}
        if audio is not None:
            pooled["audio"] = self.encode_audio(audio).float().mean(1)
        if video is not None:
            pooled["video"] = self.encode_video(video).float().mean(1)
        return pooled

    def forward_contrast(
        self,
        logmel_BTM: Tensor,
        frames_BFCHW: Tensor,
        audio_chunks: Sequence[MaskedChunk],
        video_chunks: Sequence[MaskedChunk],
    ) -> tuple[Tensor, Tensor]:
        """Pool each clip over its kept tokens, one dense batch per chunk, nothing padded.

        The chunks of a modality hold every clip once.

        Returns:
            Audio and video features (B, D), fp32, in clip order.
        """
        audio_BLD = self.vit_base.embed_audio(logmel_BTM)
        video_BLD = self.vit_base.embed_video(frames_BFCHW)
        return (
            self._pool_chunks(audio_BLD, "audio", audio_chunks),
            self._pool_chunks(video_BLD, "video", video_chunks),
        )

    def _pool_chunks(
        self, x_BLD: Tensor, modality: Modality, chunks: Sequence[MaskedChunk]
    ) -> Tensor:
        pooled = [
            self._encode(x_BLD[chunk.clip_ids], modality, chunk.ids_keep).float().mean(1)
            for chunk in chunks
        ]
        clip_ids = torch.cat([chunk.clip_ids for chunk in chunks])
        return torch.cat(pooled)[clip_ids.argsort()]

    def forward_reconstruct(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> tuple[Tensor, Tensor]:
        """Predict every patch from the kept ones: (B, La, P) audio, (B, Lv, P) video."""
        audio_BKD = self.encode_audio(logmel_BTM, audio_mask.ids_keep)
        video_BKD = self.encode_video(frames_BFCHW, video_mask.ids_keep)
        fused_BKD = self.fuse(audio_BKD, video_BKD)
        num_audio = audio_BKD.shape[1]
        return self.decoder(
            fused_BKD[:, :num_audio],
            fused_BKD[:, num_audio:],
            audio_mask.ids_restore,
            video_mask.ids_restore,
        )

    @torch.no_grad()
    def reconstruct(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> Reconstruction:
        """Fill hidden patches with predictions, for pictures; visible ones are the input's own."""
        audio_BLP, video_BLP = self.forward_reconstruct(
            logmel_BTM, frames_BFCHW, audio_mask, video_mask
        )
        audio = picture_audio(self.config, logmel_BTM, audio_BLP.float(), audio_mask.is_masked_BL)
        video = picture_video(self.config, frames_BFCHW, video_BLP.float(), video_mask.is_masked_BL)
        return Reconstruction(*audio, *video)

    def forward_heads(
        self, audio: Tensor | None = None, video: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Score every head that the given inputs allow; each modality is encoded once.

        Returns:
            "audio" (B, 1, C), "video" (B, G, C), "audio_video" (B, G, C): logits per frame group.
        """
        if audio is None and video is None:
            raise ValueError("give audio, video or both")
        logits: dict[str, Tensor] = {}
        audio_BLD = None if audio is None else self.encode_audio(audio)
        if audio_BLD is not None:
            logits["audio"] = self.mlp_head_a(audio_BLD.mean(1))[:, None]
        if video is None:
            return logits
        video_BGLD = self.encode_video(video).unflatten(1, (-1, self.num_video_tokens))
        logits["video"] = self.mlp_head(video_BGLD.mean(2))
        if audio_BLD is not None:
            logits["audio_video"] = self._score_fused(audio_BLD, video_BGLD)
        return logits

    def _score_fused(self, audio_BLD: Tensor, video_BGLD: Tensor) -> Tensor:
        num_groups, num_audio = video_BGLD.shape[1], audio_BLD.shape[1]
        fused_NLD = self.fuse(
            audio_BLD.repeat_interleave(num_groups, dim=0), video_BGLD.flatten(0, 1)
        )
        pooled = (fused_NLD[:, :num_audio].mean(1), fused_NLD[:, num_audio:].mean(1))
        return self.mlp_head_mm(torch.cat(pooled, dim=1)).unflatten(0, (-1, num_groups))

    def forward_classify(self, audio: Tensor | None = None, video: Tensor | None = None) -> Tensor:
        """Score with the head that matches the inputs: (B, C), mean of the frame groups' logits."""
        if audio is not None and video is not None:
            return self.forward_heads(audio, video)["audio_video"].mean(1)
        return self.forward_heads(audio, video)["audio" if video is None else "video"].mean(1)


def _make_head(dim: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_classes))
