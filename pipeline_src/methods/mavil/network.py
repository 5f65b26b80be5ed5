"""MAViL and DiffMAViL: an encoder per modality, a fusion encoder, decoders or three heads.

"MAViL: Masked Audio-Video Learners" (arXiv:2212.08071); "Diffusion Models as Masked Audio-Video
Learners" (arXiv:2310.03937) puts noised patches where MAViL's decoders have mask tokens. Neither
has public pre-training code: this is a reconstruction (docs/methods.md).

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, G groups of num_frames frames,
L tokens (La audio, Lv video), K kept tokens, Q hidden tokens to predict, D embed_dim, E proj_dim,
P patch vector, C classes. Encoded sequences begin with a class token.
"""

import re
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pipeline_src.methods.common.blocks import TOKEN_INIT_STD, init_weights
from pipeline_src.methods.common.masking import Mask, gather_tokens
from pipeline_src.methods.common.network import AudioVisualModel, LayerId, init_heads, make_head
from pipeline_src.methods.common.pictures import DenoisedPictures, audio_patches, video_patches
from pipeline_src.methods.common.pos_embed import sincos_2d, sincos_3d
from pipeline_src.methods.mavil.config import MAViLConfig
from pipeline_src.methods.mavil.decoder import ModalityDecoder, Noised
from pipeline_src.methods.mavil.diffusion import NoiseSchedule
from pipeline_src.methods.mavil.encoder import AudioEncoder, Fusion, VideoEncoder
from pipeline_src.methods.mavil.views import Masks, Query, ViewedClips
from pipeline_src.modalities import Modality

NOISE_SEED = 0
Pair = tuple[Tensor, Tensor]  # of audio and of video
NoisedPair = tuple[Noised | None, Noised | None]


class MaskedOutput(NamedTuple):
    """What the losses need, audio and video each.

    Args:
        features: per view, projected features (B, E) in clip order.
        predictions: per chunk and view with queries, in that order: (clips, Q, P).
    """

    features: list[Pair]
    predictions: list[Pair]


class MAViL(AudioVisualModel):
    """The network. ``num_classes`` = 0 builds projections and decoders, more builds the heads."""

    config: MAViLConfig
    head_prefixes: ClassVar[tuple[str, ...]] = ("head_",)
    pretrain_prefixes: ClassVar[tuple[str, ...]] = ("proj_", "decoder_")

    def __init__(self, config: MAViLConfig) -> None:
        super().__init__(config)
        dim = config.embed_dim
        self.audio = AudioEncoder(config)
        self.video = VideoEncoder(config)
        self.fusion = Fusion(config)
        if config.num_classes:
            self.head_av = make_head(2 * dim, config.num_classes)
            self.head_a = make_head(dim, config.num_classes)
            self.head_v = make_head(dim, config.num_classes)
        else:
            self.proj_a = _make_projection(dim, config.proj_dim)
            self.proj_v = _make_projection(dim, config.proj_dim)
            self._add_decoders(config)
        self.apply(init_weights)
        init_heads(self)
        for name, parameter in self.named_parameters():
            if name.endswith(("cls_token", "mask_token", "noisy_embed.bias")):
                nn.init.normal_(parameter, std=TOKEN_INIT_STD)
            elif name.endswith(("noisy_embed.weight", "step_embed.2.weight")):
                nn.init.normal_(parameter, std=config.noise_init)

    def _add_decoders(self, config: MAViLConfig) -> None:
        dim = config.decoder_embed_dim
        times = config.num_frames // config.tubelet_size
        self.decoder_a = ModalityDecoder(
            config,
            config.audio_decoder,
            pos_embed_1LD=sincos_2d(config.audio_token_grid, dim),
            patch_dim=config.audio_patch_dim,
        )
        self.decoder_v = ModalityDecoder(
            config,
            config.video_decoder,
            pos_embed_1LD=sincos_3d((times, *config.video_grid), dim),
            patch_dim=config.video_patch_dim,
        )
        if config.diffusion:
            self.schedule = NoiseSchedule(config.noise_steps, config.noise_exponent)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the encoders' blocks in the backward pass: less memory, more time."""
        self.audio.grad_checkpointing = enable
        self.video.grad_checkpointing = enable

    def layer_id(self, name: str) -> LayerId:
        """Place a parameter as ``AudioVisualModel.layer_id`` says."""
        if name.startswith("head_"):
            return "head"
        if name.startswith("fusion."):
            return "fusion"
        if name.startswith(self.pretrain_prefixes):
            return "decoder"
        block = re.match(r"(audio|video)\.blocks\.(\d+)\.", name)
        if block:
            return int(block[2]) + 1
        return self.config.depth if re.match(r"(audio|video)\.norm\.", name) else 0

    def encode_audio(self, logmel_BTM: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode log-mels: (B, La, D) after the final norm, or (B, K, D) of the kept tokens."""
        x_BLD = self.audio.embed(logmel_BTM)
        return self.audio(x_BLD if ids_keep is None else gather_tokens(x_BLD, ids_keep))[:, 1:]

    def encode_video(self, frames_BFCHW: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode frames: (B, G * Lv, D) after the final norm, or (B, K, D) of the kept tokens."""
        if ids_keep is not None:
            x_BLD = self.video.embed(self.single_group(frames_BFCHW))
            return self.video(gather_tokens(x_BLD, ids_keep))[:, 1:]
        groups_BGFCHW = self.group_frames(frames_BFCHW)
        x_NLD = self.video(self.video.embed(groups_BGFCHW.flatten(0, 1)))[:, 1:]
        return x_NLD.unflatten(0, (-1, groups_BGFCHW.shape[1])).flatten(1, 2)

    def project_for_contrast(self, pooled: dict[str, Tensor]) -> dict[str, Tensor]:
        """Project pooled tokens to (B, E) as in pre-training; nothing where heads stand instead."""
        if self.config.num_classes:
            return {}
        projections = {"audio": self.proj_a, "video": self.proj_v}
        dtype = next(self.proj_a.parameters()).dtype  # pooled values are fp32
        return {name: projections[name](value.to(dtype)) for name, value in pooled.items()}

    def forward_masked(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, chunks: Sequence[ViewedClips]
    ) -> MaskedOutput:
        """Encode every view of every chunk, pool it, and predict what its queries ask for.

        Patches are embedded once. Noise reaches the decoders alone.
        """
        tokens = (self.audio.embed(logmel_BTM), self.video.embed(self.single_group(frames_BFCHW)))
        patches = self.patches(logmel_BTM, frames_BFCHW) if self.config.diffusion else (None, None)
        pooled: list[list[Pair]] = [[] for _ in chunks[0].views]
        predictions = []
        for clip_ids, views in chunks:
            clips_B1 = clip_ids[:, None]
            for place, (masks, queries) in enumerate(views):
                audio = self.audio(tokens[0][clips_B1, masks[0].ids_keep])
                video = self.video(tokens[1][clips_B1, masks[1].ids_keep])
                pooled[place].append((_pool(audio), _pool(video)))
                if queries:
                    ids = (queries[0].ids_BQ, queries[1].ids_BQ)
                    noised = (
                        self._noised(patches[0], clips_B1, queries[0]),
                        self._noised(patches[1], clips_B1, queries[1]),
                    )
                    predictions.append(self.decode(self.fusion(audio, video), masks, ids, noised))
        order = torch.cat([chunk.clip_ids for chunk in chunks]).argsort()
        return MaskedOutput([self._project(parts, order) for parts in pooled], predictions)

    def _project(self, parts: list[Pair], order: Tensor) -> Pair:
        """Join the chunks' pooled features in clip order and project them: (B, E)."""
        audio_BD, video_BD = (torch.cat(side)[order] for side in zip(*parts, strict=True))
        return self.proj_a(audio_BD), self.proj_v(video_BD)

    def _noised(self, patches_BLP: Tensor | None, clips_B1: Tensor, query: Query) -> Noised | None:
        """Noise the queried patches to their diffusion steps: (B, Q, P)."""
        if patches_BLP is None or query.diffusion is None:
            return None
        steps_B, noise_BQP = query.diffusion
        clean_BQP = patches_BLP[clips_B1, query.ids_BQ]
        return Noised(self.schedule.add_noise(clean_BQP, noise_BQP, steps_B), steps_B)

    def patches(self, logmel_BTM: Tensor, frames_BFCHW: Tensor) -> Pair:
        """Cut the inputs into patch vectors in token order: (B, La, P), (B, Lv, P)."""
        return audio_patches(self.config, logmel_BTM), video_patches(self.config, frames_BFCHW)

    def encode_visible(self, logmel_BTM: Tensor, frames_BFCHW: Tensor, masks: Masks) -> Pair:
        """Encode and fuse the kept tokens of audio and video: (B, 1 + K, D) each."""
        audio_BLD = self.audio.embed(logmel_BTM)
        video_BLD = self.video.embed(self.single_group(frames_BFCHW))
        return self.fusion(
            self.audio(gather_tokens(audio_BLD, masks[0].ids_keep)),
            self.video(gather_tokens(video_BLD, masks[1].ids_keep)),
        )

    def decode(self, fused: Pair, masks: Masks, ids: Pair, noised: NoisedPair) -> Pair:
        """Predict the hidden tokens ``ids`` (B, Q) of audio and video: (B, Q, P)."""
        audio, video = fused
        return (
            self.decoder_a(audio, video, masks[0].ids_keep, ids[0], noised[0]),
            self.decoder_v(video, audio, masks[1].ids_keep, ids[1], noised[1]),
        )

    def forward_reconstruct(
        self, logmel_BTM: Tensor, frames_BFCHW: Tensor, audio_mask: Mask, video_mask: Mask
    ) -> tuple[Tensor, Tensor]:
        """Predict the hidden patches, 0 at visible ones: (B, La, P) audio, (B, Lv, P) video.

        With diffusion in one step from noise alone (t = T): the mean of what could be there.
        """
        masks, ids = (audio_mask, video_mask), (audio_mask.ids_hidden(), video_mask.ids_hidden())
        fused = self.encode_visible(logmel_BTM, frames_BFCHW, masks)
        noised: NoisedPair = (None, None)
        if self.config.diffusion:
            audio_dim, video_dim = self.config.patch_dims
            noised = self._pure_noise(ids[0], audio_dim), self._pure_noise(ids[1], video_dim)
        audio_BQP, video_BQP = self.decode(fused, masks, ids, noised)
        return (
            place_tokens(audio_BQP, ids[0], self.num_audio_tokens),
            place_tokens(video_BQP, ids[1], self.num_video_tokens),
        )

    def _pure_noise(self, ids_BQ: Tensor, patch_dim: int) -> Noised:
        """Make hidden patches (B, Q, P) at step T, the same for every clip."""
        shape = (1, ids_BQ.shape[1], patch_dim)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(NOISE_SEED))
        steps_B = torch.full_like(ids_BQ[:, 0], self.schedule.num_steps)
        return Noised(noise.to(ids_BQ.device).expand(len(ids_BQ), -1, -1), steps_B)

    def denoise(
        self,
        logmel_BTM: Tensor,
        frames_BFCHW: Tensor,
        masks: Masks,
        *,
        num_steps: int,
        generator: torch.Generator,
    ) -> DenoisedPictures | None:
        """Sample as ``AudioVisualModel.denoise`` says: (B, S, ...); None without diffusion."""
        if not self.config.diffusion:
            return None
        from pipeline_src.methods.mavil.denoise import denoise  # it imports this module

        num_steps = min(num_steps, self.schedule.num_steps)
        inputs = (logmel_BTM, frames_BFCHW, masks)
        return denoise(self, *inputs, num_steps=num_steps, generator=generator)

    def fuse_complete(self, logmel_BTM: Tensor, frames_BFCHW: Tensor) -> Pair:
        """Encode and fuse complete inputs, class tokens left out: (B, La, D), (B, Lv, D)."""
        audio_BLD = self.audio(self.audio.embed(logmel_BTM))
        video_BLD = self.video(self.video.embed(self.single_group(frames_BFCHW)))
        audio_BLD, video_BLD = self.fusion(audio_BLD, video_BLD)
        return audio_BLD[:, 1:], video_BLD[:, 1:]

    def head_tokens(self, inputs: Tensor, modality: Modality) -> Tensor:
        """Return the class token and the patches of a modality's encoder, not fused: (N, L, D)."""
        encoder = self.audio if modality == "audio" else self.video
        return encoder(encoder.embed(inputs))

    def score_one(self, x_NLD: Tensor, modality: Modality) -> Tensor:
        """Score the patches of a modality by its own head: (N, C)."""
        head = self.head_a if modality == "audio" else self.head_v
        return head(x_NLD[:, 1:].mean(1))

    def score_both(self, audio_NLD: Tensor, video_NLD: Tensor) -> Tensor:
        """Score the fused patches by the head of both: (N, C)."""
        fused = self.fusion(audio_NLD, video_NLD)
        return self.head_av(torch.cat([side_NLD[:, 1:].mean(1) for side_NLD in fused], dim=1))


def place_tokens(values_BQP: Tensor, ids_BQ: Tensor, num_tokens: int) -> Tensor:
    """Put tokens to their places among zeros: (B, L, P)."""
    target = values_BQP.new_zeros(len(values_BQP), num_tokens, values_BQP.shape[-1])
    return target.scatter(1, ids_BQ[..., None].expand_as(values_BQP), values_BQP)


def _pool(x_BLD: Tensor) -> Tensor:
    """Average over all but the class token in fp32: (B, D)."""
    return x_BLD[:, 1:].float().mean(1)


def _make_projection(dim: int, proj_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, proj_dim))
