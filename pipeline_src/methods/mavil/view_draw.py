"""Random choices of a step of MAViL or DiffMAViL: masks of every view, and what decoders predict.

Shape legend: B clips, Q hidden tokens to predict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline_src.methods.common.masking import (
    AudioMask,
    draw_noise,
    mask_from_noise,
    split_batch,
    structured_noise,
)
from pipeline_src.methods.common.ratios import MaskRatios
from pipeline_src.methods.mavil.config import MAViLConfig
from pipeline_src.methods.mavil.views import Diffusion, Masks, Queries, Query, View, ViewedClips

RatioPair = tuple[float, float]  # of audio and of video
# Make other seeds than the masks' of what only decoders see, and of who has which listed ratio.
DECODER_SEED = 0x2E5BF271
ORDER_SEED = 0x61C88647


@dataclass(frozen=True)
class ViewDraw:
    """How views are drawn.

    Args:
        audio_mask: structure of the audio masks; video masks have none.
        num_encoded: independently masked views of each clip.
        num_decoded: how many of them, from the first on, are decoded.
        decode_fraction: share of the hidden tokens that a cross decoder predicts, at random.
        shared_step: one diffusion step for both sides of a clip.
    """

    config: MAViLConfig
    audio_mask: AudioMask
    num_encoded: int
    num_decoded: int
    decode_fraction: float
    shared_step: bool

    def draw(
        self,
        batch_size: int,
        ratios: MaskRatios,
        generator: torch.Generator,
    ) -> tuple[ViewedClips, ...]:
        """Draw the views of a batch.

        What only decoders see comes from a generator of its own, with a seed that follows from
        this one's, so that neither diffusion nor partial decoding changes a mask. Of listed ratios
        each modality of each view has an order of its own, so that the number of tokens, which a
        network can read off its features, says nothing about which clip another one is of.
        """
        clips: Sequence[Tensor] = (torch.arange(batch_size, device=generator.device),)
        if len(ratios.listed) > 1:
            clips = split_batch(batch_size, len(ratios.listed), generator)
        views_ratios = _orders(ratios, self.num_encoded, generator)
        masked = [
            (ids, [self._masks(len(ids), pair, generator) for pair in pairs])
            for ids, pairs in zip(clips, zip(*views_ratios, strict=True), strict=True)
            if len(ids)
        ]
        decoder_generator = _fork(generator, DECODER_SEED)
        decoded = [place < self.num_decoded for place in range(self.num_encoded)]
        return tuple(
            ViewedClips(
                ids,
                tuple(
                    View(masks, self._queries(masks, decoder_generator) if is_decoded else None)
                    for masks, is_decoded in zip(views, decoded, strict=True)
                ),
            )
            for ids, views in masked
        )

    def _masks(self, num_clips: int, ratios: RatioPair, generator: torch.Generator) -> Masks:
        """Draw the masks of one view, audio tokens in their time-major order: (B, L)."""
        grid = self.config.audio_grid
        noise = structured_noise(
            num_clips, grid, ratios[0], structure=self.audio_mask, generator=generator
        )
        time_major = noise.unflatten(1, grid).transpose(1, 2).flatten(1)
        video_noise = draw_noise(num_clips, self.config.num_video_tokens, generator)
        return mask_from_noise(time_major, ratios[0]), mask_from_noise(video_noise, ratios[1])

    def _queries(self, masks: Masks, generator: torch.Generator) -> Queries:
        """Choose the hidden tokens (B, Q) to predict; with diffusion draw their steps and noise."""
        config = self.config
        ids = [
            self._choose(mask.ids_hidden(), kind == "joint", generator)
            for mask, kind in zip(masks, (config.audio_decoder, config.video_decoder), strict=True)
        ]
        if not config.diffusion:
            return Query(ids[0]), Query(ids[1])
        steps = [self._steps(len(ids[0]), generator) for _ in range(1 if self.shared_step else 2)]
        noise = [
            torch.randn(*places.shape, dim, generator=generator, device=generator.device)
            for places, dim in zip(ids, config.patch_dims, strict=True)
        ]
        return (
            Query(ids[0], Diffusion(steps[0], noise[0])),
            Query(ids[1], Diffusion(steps[-1], noise[1])),
        )

    def _steps(self, num_clips: int, generator: torch.Generator) -> Tensor:
        """Draw a diffusion step per clip, 1 to T: (B,)."""
        last = self.config.noise_steps
        return torch.randint(
            1, last + 1, (num_clips,), generator=generator, device=generator.device
        )

    def _choose(self, ids_BQ: Tensor, is_joint: bool, generator: torch.Generator) -> Tensor:
        """Choose a random part of the hidden tokens, in ascending order: (B, Q)."""
        if is_joint or self.decode_fraction == 1:
            return ids_BQ
        num_clips, num_hidden = ids_BQ.shape
        count = max(1, round(num_hidden * self.decode_fraction))
        order = draw_noise(num_clips, num_hidden, generator).argsort(dim=1)[:, :count]
        return ids_BQ.gather(1, order.sort(dim=1).values)


def _orders(
    ratios: MaskRatios, num_views: int, generator: torch.Generator
) -> list[list[RatioPair]]:
    """List per view the ratios of each chunk of clips, in orders drawn for each modality."""
    listed = ratios.listed
    if not listed:
        return [[(ratios.audio, ratios.video)]] * num_views
    # Sizes of tensors hang on it, so it is drawn on the host.
    fork = torch.Generator().manual_seed(generator.initial_seed() ^ ORDER_SEED)
    orders = [
        [listed[place] for place in torch.randperm(len(listed), generator=fork).tolist()]
        for _ in range(2 * num_views)
    ]
    return [
        list(zip(audio, video, strict=True))
        for audio, video in zip(orders[::2], orders[1::2], strict=True)
    ]


def _fork(generator: torch.Generator, purpose: int) -> torch.Generator:
    """Make another generator from the seed; reading a draw for it would wait for a GPU."""
    return torch.Generator(generator.device).manual_seed(generator.initial_seed() ^ purpose)
