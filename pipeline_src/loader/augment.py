"""Training augmentation of whole batches, from an explicit generator.

Every function changes each clip by its own random draw and keeps shapes. Log-mels are normalised,
so 0 is the training set's mean level; it fills what a mask hides unless the recipe says otherwise.

Shape legend: B clips, T log-mel frames, M mel bins, F video frames, H W pixels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline_src.config.optim import AugmentConfig


def augment_batch(
    batch: dict[str, Tensor],
    config: AugmentConfig,
    *,
    generator: torch.Generator,
    zero_level: float = 0.0,
) -> dict[str, Tensor]:
    """Return the batch with "logmel" (B, T, M) and, if any, "frames" (B, F, 3, H, W) augmented.

    Of log-mels (B, G, T, M) each segment is changed by its own draw.

    Args:
        zero_level: what a log-mel of 0 nats has become by normalisation.
    """
    logmel = batch["logmel"]
    changed = _augment_logmel(logmel.flatten(0, -3), config, generator, zero_level)
    augmented = {**batch, "logmel": changed.unflatten(0, logmel.shape[:-2])}
    is_warped = config.crop_scale < 1 or config.image_shift or config.image_rotate or config.flip
    if "frames" in batch and is_warped:
        augmented["frames"] = warp_frames(
            batch["frames"],
            crop_scale=config.crop_scale,
            image_shift=config.image_shift,
            image_rotate=config.image_rotate,
            flip=config.flip,
            generator=generator,
        )
    return augmented


def _augment_logmel(
    logmel_BTM: Tensor, config: AugmentConfig, generator: torch.Generator, zero_level: float
) -> Tensor:
    if config.time_roll:
        logmel_BTM = roll_logmel(logmel_BTM, config.time_roll, generator=generator)
    if config.time_shift or config.freq_shift:
        shifts = config.time_shift, config.freq_shift
        logmel_BTM = shift_logmel(logmel_BTM, *shifts, generator=generator)
    if config.gain:
        levels_B = _symmetric(len(logmel_BTM), generator, logmel_BTM)
        logmel_BTM = logmel_BTM + config.gain * levels_B[:, None, None]
    if config.noise:
        logmel_BTM = add_noise(logmel_BTM, config.noise, generator=generator)
    fill = zero_level if config.mask_fill == "zero" else 0.0
    if config.freq_mask:
        logmel_BMT = logmel_BTM.transpose(1, 2)
        masked_BMT = mask_spans(logmel_BMT, config.freq_mask, fill, generator=generator)
        logmel_BTM = masked_BMT.transpose(1, 2)
    if config.time_mask:
        logmel_BTM = mask_spans(logmel_BTM, config.time_mask, fill, generator=generator)
    return logmel_BTM


def _uniform(num_clips: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw U[0, 1) per clip, (B,), on the device of ``like``."""
    return torch.rand(num_clips, generator=generator, device=generator.device).to(like.device)


def _symmetric(num_clips: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw U[-1, 1) per clip, (B,)."""
    return 2 * _uniform(num_clips, generator, like) - 1


def shift_logmel(
    logmel_BTM: Tensor, time_shift: int, freq_shift: int, *, generator: torch.Generator
) -> Tensor:
    """Move log-mels (B, T, M) by up to so many frames and mel bins; edge cells are repeated."""
    num_clips, num_frames, num_bins = logmel_BTM.shape
    index_T = _shifted_index(num_clips, num_frames, time_shift, generator, logmel_BTM)
    index_M = _shifted_index(num_clips, num_bins, freq_shift, generator, logmel_BTM)
    moved = logmel_BTM.gather(1, index_T[:, :, None].expand_as(logmel_BTM))
    return moved.gather(2, index_M[:, None, :].expand_as(logmel_BTM))


def roll_logmel(logmel_BTM: Tensor, limit: int, *, generator: torch.Generator) -> Tensor:
    """Roll log-mels (B, T, M) in time by up to ``limit`` frames: off one end, in at the other."""
    num_clips, num_frames, _ = logmel_BTM.shape
    index_BT = _moved_index(num_clips, num_frames, limit, generator, logmel_BTM) % num_frames
    return logmel_BTM.gather(1, index_BT[:, :, None].expand_as(logmel_BTM))


def _shifted_index(
    num_clips: int, size: int, limit: int, generator: torch.Generator, like: Tensor
) -> Tensor:
    """Return (B, size) positions moved by a draw per clip and kept within [0, size)."""
    return _moved_index(num_clips, size, limit, generator, like).clamp(0, size - 1)


def _moved_index(
    num_clips: int, size: int, limit: int, generator: torch.Generator, like: Tensor
) -> Tensor:
    """Return (B, size) positions moved by a draw per clip; they may lie outside [0, size)."""
    shift_B = (_uniform(num_clips, generator, like) * (2 * limit + 1)).long() - limit
    return torch.arange(size, device=like.device)[None] - shift_B[:, None]


def add_noise(logmel_BTM: Tensor, amplitude: float, *, generator: torch.Generator) -> Tensor:
    """Add U[0, 1) times a level per clip from U[0, amplitude) to (B, T, M) (AVSiam, CAV-MAE)."""
    noise = torch.rand(logmel_BTM.shape, generator=generator, device=generator.device)
    level_B = amplitude * _uniform(len(logmel_BTM), generator, logmel_BTM)
    return logmel_BTM + noise.to(logmel_BTM.device) * level_B[:, None, None]


def mask_spans(
    x_BNX: Tensor, widest: int, fill: float = 0.0, *, generator: torch.Generator
) -> Tensor:
    """Set one span of axis 1 of (B, N, X) to ``fill``, 0 .. ``widest`` long (SpecAugment)."""
    num_clips, size, _ = x_BNX.shape
    width_B = (_uniform(num_clips, generator, x_BNX) * (min(widest, size) + 1)).long()
    start_B = (_uniform(num_clips, generator, x_BNX) * (size - width_B + 1)).long()
    position = torch.arange(size, device=x_BNX.device)[None]
    is_hidden_BN = (position >= start_B[:, None]) & (position < (start_B + width_B)[:, None])
    return x_BNX.masked_fill(is_hidden_BN[:, :, None], fill)


def warp_frames(
    frames_BFCHW: Tensor,
    *,
    crop_scale: float,
    image_shift: float,
    image_rotate: float,
    flip: bool,
    generator: torch.Generator,
) -> Tensor:
    """Crop, move, rotate and mirror (B, F, 3, H, W), a clip's frames alike, edge pixels repeated.

    Args:
        crop_scale: smallest area kept, share of the frame; the crop has the frame's shape and is
            resized to full size.
        image_shift: largest move per axis, share of the side.
        image_rotate: largest angle in degrees.
    """
    num_clips, num_frames = frames_BFCHW.shape[:2]
    area_B = 1 - (1 - crop_scale) * _uniform(num_clips, generator, frames_BFCHW)
    side_B = area_B.sqrt()
    angle_B = math.radians(image_rotate) * _symmetric(num_clips, generator, frames_BFCHW)
    mirror_B = torch.ones_like(side_B)
    if flip:
        mirror_B = torch.where(_uniform(num_clips, generator, frames_BFCHW) < 0.5, -1.0, 1.0)
    # A crop may lie anywhere inside the frame; affine_grid's coordinates span [-1, 1].
    reach_B = (1 - side_B) + 2 * image_shift
    move_x_B = reach_B * _symmetric(num_clips, generator, frames_BFCHW)
    move_y_B = reach_B * _symmetric(num_clips, generator, frames_BFCHW)
    cos_B, sin_B = side_B * angle_B.cos(), side_B * angle_B.sin()
    rows = (
        torch.stack([mirror_B * cos_B, -sin_B, move_x_B], dim=1),
        torch.stack([mirror_B * sin_B, cos_B, move_y_B], dim=1),
    )
    theta_B23 = torch.stack(rows, dim=1).to(frames_BFCHW.dtype)
    images = frames_BFCHW.flatten(1, 2)
    grid = F.affine_grid(theta_B23, list(images.shape), align_corners=False)
    warped = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return warped.unflatten(1, (num_frames, -1))
