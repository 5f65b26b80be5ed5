"""Patch vectors as targets, and pictures of what a decoder predicts.

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, L tokens (La, Lv), P patch
vector.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline_src.architectures import NetworkConfig
from pipeline_src.models.patch_embed import (
    PatchSize,
    image_to_logmel,
    logmel_to_image,
    normalise_patches,
    patchify,
    unpatchify,
)


class Reconstruction(NamedTuple):
    """Inputs with hidden patches predicted, and where they were hidden (True = hidden).

    Shapes: (B, T, M), (B, T, M) bool, (B, F, 3, H, W), (B, F, 3, H, W) bool; a remainder smaller
    than one patch is cut off.
    """

    audio: Tensor
    audio_is_masked: Tensor
    video: Tensor
    video_is_masked: Tensor


def audio_patches(config: NetworkConfig, logmel_BTM: Tensor) -> Tensor:
    """Cut log-mels into patch vectors in token order: (B, La, P)."""
    return patchify(logmel_to_image(logmel_BTM), config.audio_patch)


def video_patches(config: NetworkConfig, frames_BFCHW: Tensor) -> Tensor:
    """Cut frames into patch vectors in token order: (B, Lv, P), frame by frame."""
    patches = patchify(frames_BFCHW.flatten(0, 1), (config.patch_size, config.patch_size))
    return patches.unflatten(0, (-1, frames_BFCHW.shape[1])).flatten(1, 2)


def picture_audio(
    config: NetworkConfig, logmel_BTM: Tensor, pred_BLP: Tensor, is_masked_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """Put predictions into the hidden patches of log-mels; return them and the hidden cells."""
    target = audio_patches(config, logmel_BTM)
    filled, hidden = _fill(target, pred_BLP, is_masked_BL, norm_pix=config.norm_pix_loss)
    return (
        image_to_logmel(unpatchify(filled, config.audio_patch, config.audio_grid)),
        image_to_logmel(unpatchify(hidden, config.audio_patch, config.audio_grid)),
    )


def picture_video(
    config: NetworkConfig, frames_BFCHW: Tensor, pred_BLP: Tensor, is_masked_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """Put predictions into the hidden patches of frames; return them and the hidden pixels."""
    grid = config.video_grid
    patch: PatchSize = (config.patch_size, config.patch_size)
    target = video_patches(config, frames_BFCHW)
    filled, hidden = _fill(target, pred_BLP, is_masked_BL, norm_pix=config.norm_pix_loss)
    per_frame = (-1, grid[0] * grid[1])
    pictures = [
        unpatchify(x.unflatten(1, per_frame).flatten(0, 1), patch, grid).unflatten(
            0, (-1, config.num_frames)
        )
        for x in (filled, hidden)
    ]
    return pictures[0], pictures[1]


def _fill(
    target_BLP: Tensor, pred_BLP: Tensor, is_masked_BL: Tensor, *, norm_pix: bool
) -> tuple[Tensor, Tensor]:
    if norm_pix:
        _, mean, std = normalise_patches(target_BLP)
        pred_BLP = pred_BLP * std + mean
    hidden = is_masked_BL[..., None].expand_as(target_BLP)
    return torch.where(hidden, pred_BLP, target_BLP), hidden
