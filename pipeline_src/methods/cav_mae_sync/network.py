"""CAV-MAE Sync: CAV-MAE with class tokens and registers, on segments of sound around a frame.

"CAV-MAE Sync: Improving Contrastive Audio-Visual Mask Autoencoders via Fine-Grained Alignment"
(arXiv:2505.01237). A modality's sequence is [class token, kept patches, registers] in its own
blocks. The registers end there; the class token passes the shared blocks with its own modality,
where it is contrasted, and is left out of the joint pass.

Shape legend: B batch, G frame groups of a clip, T log-mel frames, M mel bins, F video frames,
L tokens with the class token, K kept tokens with it, D embed_dim, C classes; N = B * G.
"""

from collections.abc import Collection
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline_src.methods.cav_mae.network import CAVMAE
from pipeline_src.methods.cav_mae_sync.config import CAVMAESyncConfig
from pipeline_src.methods.common.aggregator import Aggregator
from pipeline_src.methods.common.blocks import TOKEN_INIT_STD, run_blocks
from pipeline_src.methods.common.masking import Mask
from pipeline_src.methods.common.network import LayerId, make_head
from pipeline_src.modalities import HEADS, Modality


class CAVMAESync(CAVMAE):
    """The network. ``num_classes`` = 0 builds the pre-training decoder, more the classifier."""

    config: CAVMAESyncConfig  # type: ignore[override]
    pools_tokens: ClassVar[bool] = False
    # Every classifier passes by norms of the shared blocks, some by these blocks whole.
    all_heads_reach_all: ClassVar[bool] = False
    head_prefixes: ClassVar[tuple[str, ...]] = ("mlp_head", "classifier")

    def _add_embeddings(self, config: CAVMAESyncConfig) -> None:  # type: ignore[override]
        super()._add_embeddings(config)
        self.cls_token_a = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.cls_token_v = nn.Parameter(torch.zeros(1, 1, config.embed_dim))

    def _add_outputs(self, config: CAVMAESyncConfig) -> None:  # type: ignore[override]
        if not config.num_classes:
            super()._add_outputs(config)
        elif config.classifier == "frame":
            self.mlp_head = make_head(config.embed_dim, config.num_classes)
        else:
            self.classifier = Aggregator(
                config.embed_dim * (2 if config.classifier == "pairs" else 1),
                config.num_classes,
                num_heads=config.num_heads,
                mlp_ratio=config.mlp_ratio,
            )

    def _init_tokens(self) -> None:
        super()._init_tokens()
        for token in (self.cls_token_a, self.cls_token_v):
            nn.init.normal_(token, std=TOKEN_INIT_STD)
        if self.config.num_registers:
            nn.init.normal_(self.register_tokens, std=self.config.register_std)
        if hasattr(self, "classifier"):
            self.classifier.start()

    def layer_id(self, name: str) -> LayerId:
        """Place a parameter as ``AudioVisualModel.layer_id`` says; the aggregator is the head."""
        return "head" if name.startswith("classifier") else super().layer_id(name)

    def _run_own(self, x_BLD: Tensor, modality: Modality) -> Tensor:
        """Run the blocks of a modality alone: (B, 1 + K, D), the class token first."""
        if self._takes_patches_alone:
            blocks = self.blocks_a if modality == "audio" else self.blocks_v
            return run_blocks(blocks, x_BLD, "plain", recompute=self.grad_checkpointing)
        token = self.cls_token_a if modality == "audio" else self.cls_token_v
        num_clips = x_BLD.shape[0]  # len() would be a constant in an ONNX export
        tokens_B1D = token.to(x_BLD.dtype).expand(num_clips, -1, -1)
        return super()._run_own(torch.cat([tokens_B1D, x_BLD], dim=1), modality)

    @property
    def _takes_patches_alone(self) -> bool:
        """Whether it scores as CAV-MAE does a missing input: without class token and registers."""
        config = self.config
        is_classifier = config.num_classes > 0 and config.classifier == "frame"
        return is_classifier and config.single_modality == "averaged"

    def _encode(self, x_BLD: Tensor, modality: Modality) -> Tensor:
        """Return patch tokens after the final norm (B, L - 1, D), of what a branch returns."""
        return self._finish(x_BLD, modality)[:, 1:]

    def _pool(self, x_BLD: Tensor) -> Tensor:
        """Return what is contrasted of finished tokens: (B, D), or (B, 2 D) with the mean."""
        x_BLD = x_BLD.float()
        parts = {"class": x_BLD[:, 0], "mean": x_BLD[:, 1:].mean(1)}
        wanted = self.config.contrast_features
        return torch.cat(list(parts.values()), dim=1) if wanted == "both" else parts[wanted]

    def _feature(self, x_BLD: Tensor) -> Tensor:
        """Return the class token, or the mean where that alone is contrasted: (B, D)."""
        return self._pool(x_BLD)[:, : self.config.embed_dim]

    def pool_audio(self, logmel_BTM: Tensor) -> Tensor:
        """Pool each log-mel into one feature, as pre-training contrasts them: (B, D), fp32."""
        return self._feature(self._finish(self._branch_audio(logmel_BTM), "audio"))

    def pool_video(self, frames_BFCHW: Tensor) -> Tensor:
        """Pool each group of ``num_frames`` frames into one feature: (B, D), fp32."""
        return self._feature(self._finish(self._branch_video(frames_BFCHW), "video"))

    def embed(self, audio: Tensor | None = None, video: Tensor | None = None) -> dict[str, Tensor]:
        """Average the features of each modality's segments: (B, D), fp32."""
        segments = self.embed_segments(_segments(audio), video)
        return {name: features_BGD.mean(1) for name, features_BGD in segments.items()}

    def _decode(
        self, audio_BKD: Tensor, video_BKD: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> tuple[Tensor, Tensor]:
        """Decode patch tokens alone: (B, La, P), (B, Lv, P); the first token is the class's."""
        return super()._decode(audio_BKD[:, 1:], video_BKD[:, 1:], audio_mask, video_mask)

    def forward_heads(
        self,
        audio: Tensor | None = None,
        video: Tensor | None = None,
        heads: Collection[str] = HEADS,
    ) -> dict[str, Tensor]:
        """Score those of ``heads`` that the classifier has and the inputs allow.

        Args:
            audio: (B, G, T, M), a segment per frame group, or (B, T, M).

        Returns:
            Logits (B, 1, C) of whole clips, with ``classifier: frame`` (B, G, C).

        Raises:
            ValueError: neither audio nor video is given.
        """
        if audio is None and video is None:
            raise ValueError("forward_heads: give audio, video or both")
        own = self._branches(_segments(audio), video)
        wanted = [head for head in self.config.heads if head in heads]
        if self.config.classifier == "frame":
            return {name: self._score_frames(own[name], name) for name in wanted if name in own}
        features = {name: self._classified(x_BGLD, name) for name, x_BGLD in own.items()}
        if len(features) == 2:
            is_pair = self.config.classifier == "pairs"
            both = torch.cat([features["audio"], features["video"]], dim=2 if is_pair else 1)
            features["audio_video"] = both
        dtype = next(self.classifier.parameters()).dtype  # features are fp32, also of halves
        return {
            head: self.classifier(features[head].to(dtype))[:, None]
            for head in wanted
            if head in features
        }

    def score_segments(
        self, audio: Tensor, video: Tensor | None = None, heads: Collection[str] = HEADS
    ) -> dict[str, Tensor]:
        """Score a clip by all its segments: (B, 1, C), by each of them alone (B, G, C)."""
        return self.forward_heads(audio, video, heads)

    def _branches(self, audio: Tensor | None, video: Tensor | None) -> dict[Modality, Tensor]:
        """Run each given modality through its own blocks: (B, G, L, D)."""
        own: dict[Modality, Tensor] = {}
        if audio is not None:
            x_NLD = self._branch_audio(audio.flatten(0, 1))
            own["audio"] = x_NLD.unflatten(0, tuple(audio.shape[:2]))
        if video is not None:
            groups_BGFCHW = self.group_frames(video)
            x_NLD = self._branch_video(groups_BGFCHW.flatten(0, 1))
            own["video"] = x_NLD.unflatten(0, tuple(groups_BGFCHW.shape[:2]))
        return own

    def _classified(self, x_BGLD: Tensor, modality: Modality) -> Tensor:
        """Return what the aggregator reads of a modality: (B, G, D)."""
        if self.config.classifier == "pairs":  # as released: neither shared blocks nor a norm
            return x_BGLD[:, :, 0]
        norm = modality if self.config.classifier == "tokens" else "plain"
        x_NLD = self._finish(x_BGLD.flatten(0, 1), norm)
        feature_ND = self._feature(x_NLD) if norm == modality else x_NLD.mean(1)
        return feature_ND.unflatten(0, x_BGLD.shape[:2])

    def _score_frames(self, x_BGLD: Tensor, modality: Modality) -> Tensor:
        """Score every frame or segment by itself: (B, G, C)."""
        x_NLD = x_BGLD.flatten(0, 1)
        if self._takes_patches_alone:
            logits_NC = self.score_one(x_NLD, modality)
        else:
            logits_NC = self.mlp_head(self._finish(x_NLD, "plain")[:, 0])
        return logits_NC.unflatten(0, x_BGLD.shape[:2])


def _segments(audio: Tensor | None) -> Tensor | None:
    """Take one log-mel per clip as one segment: (B, G, T, M)."""
    return audio[:, None] if audio is not None and audio.ndim == 3 else audio
