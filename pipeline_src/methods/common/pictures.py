"""Patch vectors as targets, and pictures of what a decoder predicts.

Shape legend: B batch, T log-mel frames, M mel bins, F video frames, L tokens (La, Lv), P patch
vector.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline_src.methods.common.config import NetworkConfig
from pipeline_src.methods.common.patch_embed import (
    image_to_logmel,
    logmel_to_image,
    normalise_patches,
    patchify,
    patchify_video,
    unpatchify,
    unpatchify_video,
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


class DenoisedPictures(NamedTuple):
    """States from noise to prediction, visible patches as given.

    Shapes: (B, S, T, M), (B, S, F, 3, H, W); ``steps``: diffusion step of each of the S states.
    """

    audio: Tensor
    video: Tensor
    steps: tuple[int, ...]


def audio_patches(config: NetworkConfig, logmel_BTM: Tensor) -> Tensor:
    """Cut log-mels into patch vectors in token order: (B, La, P)."""
    image = logmel_BTM[:, None] if config.time_major else logmel_to_image(logmel_BTM)
    return patchify(image, config.audio_token_patch)


def video_patches(config: NetworkConfig, frames_BFCHW: Tensor) -> Tensor:
    """Cut frames into patch vectors in token order: (B, Lv, P), frame by frame."""
    return patchify_video(frames_BFCHW, config.video_patch)


def picture_audio(
    config: NetworkConfig, logmel_BTM: Tensor, pred_BLP: Tensor, is_masked_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """Put predictions into the hidden patches of log-mels: (B, T, M), and the hidden cells."""
    target = audio_patches(config, logmel_BTM)
    filled, hidden = _fill(target, pred_BLP, is_masked_BL, norm_pix=config.norm_pix_loss)
    return patches_to_logmel(config, filled), patches_to_logmel(config, hidden)


def picture_video(
    config: NetworkConfig, frames_BFCHW: Tensor, pred_BLP: Tensor, is_masked_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """Put predictions into the hidden patches of frames: (B, F, 3, H, W), and the hidden pixels."""
    target = video_patches(config, frames_BFCHW)
    filled, hidden = _fill(target, pred_BLP, is_masked_BL, norm_pix=config.norm_pix_loss)
    return patches_to_frames(config, filled), patches_to_frames(config, hidden)


def patches_to_logmel(config: NetworkConfig, patches_BLP: Tensor) -> Tensor:
    """Undo ``audio_patches``: (B, T, M)."""
    image = unpatchify(patches_BLP, config.audio_token_patch, config.audio_token_grid)
    return image.squeeze(1) if config.time_major else image_to_logmel(image)


def patches_to_frames(config: NetworkConfig, patches_BLP: Tensor) -> Tensor:
    """Undo ``video_patches``: (B, F, 3, H, W)."""
    return unpatchify_video(patches_BLP, config.video_patch, config.video_grid)


def _fill(
    target_BLP: Tensor, pred_BLP: Tensor, is_masked_BL: Tensor, *, norm_pix: bool
) -> tuple[Tensor, Tensor]:
    """Put predictions where patches are hidden, (B, L, P), and tell where: True = hidden."""
    if norm_pix:
        _, mean, std = normalise_patches(target_BLP)
        pred_BLP = pred_BLP * std + mean
    hidden = is_masked_BL[..., None].expand_as(target_BLP)
    return torch.where(hidden, pred_BLP, target_BLP), hidden
