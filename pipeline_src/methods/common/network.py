"""What every method's network offers to objectives, training and evaluation.

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, G groups of num_frames frames,
L tokens (La audio, Lv video), K kept tokens, D embed_dim, P patch vector, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline_src.methods.common.config import NetworkConfig
from pipeline_src.methods.common.masking import Mask
from pipeline_src.methods.common.pictures import (
    DenoisedPictures,
    Reconstruction,
    picture_audio,
    picture_video,
)
from pipeline_src.modalities import HEADS, Modality

HEAD_INIT_STD = 0.02
LayerId = int | Literal["head", "fusion", "decoder"]


class AudioVisualModel(nn.Module, ABC):
    """A network with an audio and a video encoder, and a decoder or heads.

    ``num_classes`` = 0 builds the pre-training decoder, more builds the heads. ``head_prefixes``
    and ``pretrain_prefixes`` name the parameters that only fine-tuning or only pre-training has.
    ``pools_tokens``: the features that are contrasted are means over tokens.
    ``all_heads_reach_all``: the loss of all heads has a gradient for every parameter.
    """

    pools_tokens: ClassVar[bool] = True
    all_heads_reach_all: ClassVar[bool] = True
    head_prefixes: ClassVar[tuple[str, ...]] = ("mlp_head",)
    pretrain_prefixes: ClassVar[tuple[str, ...]] = ("decoder.",)

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Rows (frequency) and columns (time) of audio tokens."""
        return self.config.audio_grid

    @property
    def video_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of one frame."""
        return self.config.video_grid

    @property
    def num_audio_tokens(self) -> int:
        """La."""
        return self.config.num_audio_tokens

    @property
    def num_video_tokens(self) -> int:
        """Lv: tokens of num_frames frames."""
        return self.config.num_video_tokens

    @abstractmethod
    def encode_audio(self, logmel_BTM: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode log-mels: (B, La, D) after the final norm, or (B, K, D) of the kept tokens."""

    @abstractmethod
    def encode_video(self, frames_BFCHW: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode frames: (B, G * Lv, D) after the final norm, or (B, K, D) of the kept tokens.

        More than ``num_frames`` frames are encoded in G = F // num_frames groups, each a sequence
        of its own that spans the clip; ``ids_keep`` needs exactly ``num_frames`` frames.
        """

    @abstractmethod
    def forward_reconstruct(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> tuple[Tensor, Tensor]:
        """Predict every patch from the kept ones: (B, La, P) audio, (B, Lv, P) video."""

    def forward_heads(
        self,
        audio: Tensor | None = None,
        video: Tensor | None = None,
        heads: Collection[str] = HEADS,
    ) -> dict[str, Tensor]:
        """Score those of ``heads`` that the given inputs allow; each modality is encoded once.

        Returns:
            "audio" (B, 1, C), "video" (B, G, C), "audio_video" (B, G, C): logits per frame group.

        Raises:
            ValueError: neither audio nor video is given.
        """
        if audio is None and video is None:
            raise ValueError("forward_heads: give audio, video or both")
        logits: dict[str, Tensor] = {}
        audio_BLD = None if audio is None else self.head_tokens(audio, "audio")
        if audio_BLD is not None and "audio" in heads:
            logits["audio"] = self.score_one(audio_BLD, "audio")[:, None]
        if video is None:
            return logits
        groups_BGFCHW = self.group_frames(video)
        per_clip = (-1, groups_BGFCHW.shape[1])
        video_NLD = self.head_tokens(groups_BGFCHW.flatten(0, 1), "video")
        if "video" in heads:
            logits["video"] = self.score_one(video_NLD, "video").unflatten(0, per_clip)
        if audio_BLD is not None and "audio_video" in heads:
            audio_NLD = audio_BLD.repeat_interleave(per_clip[1], dim=0)
            logits["audio_video"] = self.score_both(audio_NLD, video_NLD).unflatten(0, per_clip)
        return logits

    def head_tokens(self, inputs: Tensor, modality: Modality) -> Tensor:
        """Return the tokens that heads score, (N, L, D), of log-mels or of single frame groups."""
        encode = self.encode_audio if modality == "audio" else self.encode_video
        return encode(inputs)

    @abstractmethod
    def score_one(self, x_NLD: Tensor, modality: Modality) -> Tensor:
        """Score the tokens of one modality: logits (N, C)."""

    @abstractmethod
    def score_both(self, audio_NLD: Tensor, video_NLD: Tensor) -> Tensor:
        """Score the tokens of both modalities together: logits (N, C)."""

    def score_segments(
        self, audio: Tensor, video: Tensor | None = None, heads: Collection[str] = HEADS
    ) -> dict[str, Tensor]:
        """Score as ``forward_heads``, each frame group with its segment of sound: (B, G, C).

        Args:
            audio: (B, G, T, M).
        """
        pairs = tuple(audio.shape[:2])
        groups = None if video is None else self.group_frames(video).flatten(0, 1)
        logits = self.forward_heads(audio.flatten(0, 1), groups, heads)
        return {head: value.flatten(0, 1).unflatten(0, pairs) for head, value in logits.items()}

    @abstractmethod
    def layer_id(self, name: str) -> LayerId:
        """Place a parameter: "head", "fusion", "decoder", or its depth.

        Depth 0 is the embeddings, n + 1 block n; the final norms count with the last block.
        """

    def init_copies(self) -> tuple[str, ...]:
        """Start layers that begin as copies of others; return their prefixes."""
        return ()

    @abstractmethod
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the encoder's blocks in the backward pass: less memory, more time."""

    def group_frames(self, frames_BFCHW: Tensor) -> Tensor:
        """Split F frames into time-interleaved groups (B, G, num_frames, 3, H, W).

        Where num_frames does not divide F, the frames left out are spread over the clip.

        Raises:
            ValueError: there are fewer than num_frames.
        """
        total, size = frames_BFCHW.shape[1], self.config.num_frames
        if total < size:
            raise ValueError(f"{total} frames: the model was built for num_frames={size}")
        if total == size:
            return frames_BFCHW[:, None]
        num_groups = total // size
        positions = torch.arange(size * num_groups).view(size, num_groups).T
        index_GF = (2 * positions + 1) * total // (2 * size * num_groups)
        return frames_BFCHW[:, index_GF.to(frames_BFCHW.device)]

    def single_group(self, frames_BFCHW: Tensor) -> Tensor:
        """Take the one group of frames that masks are drawn for: (B, num_frames, 3, H, W).

        Raises:
            ValueError: the frames make several groups.
        """
        groups_BGFCHW = self.group_frames(frames_BFCHW)
        if groups_BGFCHW.shape[1] > 1:
            raise ValueError(
                f"masks need exactly num_frames={self.config.num_frames} frames, "
                f"got {frames_BFCHW.shape[1]}"
            )
        return groups_BGFCHW[:, 0]

    def forward(
        self, audio: Tensor | None = None, video: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Pool as ``embed`` does; for wrappers that call a module."""
        return self.embed(audio, video)

    def embed(self, audio: Tensor | None = None, video: Tensor | None = None) -> dict[str, Tensor]:
        """Pool each given modality's unmasked tokens for retrieval, probes and maps.

        Returns:
            "audio" and/or "video": (B, D) means over tokens, fp32, not L2-normalised.
        """
        pooled = {}
        if audio is not None and audio.ndim == 4:  # segments
            pooled["audio"] = self.embed_segments(audio)["audio"].mean(1)
        elif audio is not None:
            pooled["audio"] = self.encode_audio(audio).float().mean(1)
        if video is not None:
            pooled["video"] = self.encode_video(video).float().mean(1)
        return pooled

    def embed_segments(
        self, audio: Tensor | None = None, video: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Pool each frame group, and the segment of sound around it, by itself.

        Args:
            audio: (B, G, T, M). video: frames as ``encode_video`` takes them.

        Returns:
            "audio" and/or "video": (B, G, D), fp32, not L2-normalised.
        """
        pooled = {}
        if audio is not None:
            features_ND = self.pool_audio(audio.flatten(0, 1))
            pooled["audio"] = features_ND.unflatten(0, tuple(audio.shape[:2]))
        if video is not None:
            groups_BGFCHW = self.group_frames(video)
            features_ND = self.pool_video(groups_BGFCHW.flatten(0, 1))
            pooled["video"] = features_ND.unflatten(0, tuple(groups_BGFCHW.shape[:2]))
        return pooled

    def embed_sets(
        self, audio: Tensor | None = None, video: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Give several features of a clip for an attentive probe: (B, S, D), fp32.

        Of segments and frame groups as ``embed_segments``; of a whole log-mel (B, T, M) one for
        each column of tokens in time.
        """
        if audio is None or audio.ndim == 4:
            return self.embed_segments(audio, video)
        x_BRCD = self.encode_audio(audio).float().unflatten(1, self.config.audio_token_grid)
        by_time_BSD = x_BRCD.mean(2 if self.config.time_major else 1)
        return {"audio": by_time_BSD, **self.embed_segments(video=video)}

    def pool_audio(self, logmel_BTM: Tensor) -> Tensor:
        """Pool each log-mel into one feature, as pre-training pools them: (B, D), fp32."""
        return self.encode_audio(logmel_BTM).float().mean(1)

    def pool_video(self, frames_BFCHW: Tensor) -> Tensor:
        """Pool each group of ``num_frames`` frames into one feature: (B, D), fp32."""
        return self.encode_video(frames_BFCHW).float().mean(1)

    def project_for_contrast(self, pooled: dict[str, Tensor]) -> dict[str, Tensor]:
        """Project pooled tokens (B, D) to what the contrastive loss compares, (B, E).

        Empty where it takes them as they are.

        Args:
            pooled: what ``embed`` returns.
        """
        del pooled
        return {}

    @torch.no_grad()
    def reconstruct(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> Reconstruction:
        """Fill hidden patches of (B, T, M) and (B, F, 3, H, W) with predictions, for pictures."""
        audio_BLP, video_BLP = self.forward_reconstruct(
            logmel_BTM, frames_BFCHW, audio_mask, video_mask
        )
        audio = picture_audio(self.config, logmel_BTM, audio_BLP.float(), audio_mask.is_masked_BL)
        video = picture_video(self.config, frames_BFCHW, video_BLP.float(), video_mask.is_masked_BL)
        return Reconstruction(*audio, *video)

    def denoise(
        self,
        logmel_BTM: Tensor,
        frames_BFCHW: Tensor,
        masks: tuple[Mask, Mask],
        *,
        num_steps: int,
        generator: torch.Generator,
    ) -> DenoisedPictures | None:
        """Sample the hidden patches in at most ``num_steps`` steps, for pictures of a diffusion.

        Returns:
            S states (B, S, T, M), (B, S, F, 3, H, W); None where nothing is sampled.
        """
        del logmel_BTM, frames_BFCHW, masks, num_steps, generator
        return None


def make_head(dim: int, num_classes: int) -> nn.Sequential:
    """Make a classification head: LayerNorm and a linear layer."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_classes))


def init_heads(model: AudioVisualModel) -> None:
    """Start the heads near zero, so that training starts near chance."""
    for name, parameter in model.named_parameters():
        if model.layer_id(name) == "head" and parameter.ndim == 2:
            nn.init.trunc_normal_(parameter, std=HEAD_INIT_STD)
