"""Patches: embedding of log-mel and frames, and the way from pixels to patch vectors and back.

Token order is row-major over (rows, columns). For audio rows are frequency, so token = f * Tp + t.
Inside a patch vector the order is (row, column, channel), as MAE's targets.

Shape legend: B batch, T log-mel frames, M mel bins, H W pixels, C channels, L tokens, P values of
a patch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline_src.methods.common.config import NetworkConfig

PatchSize = tuple[int, int]
TubeletSize = tuple[int, int, int]  # frames, rows, columns


class PatchEmbed(nn.Module):
    """Patch embedding, its parameters as timm names them: one matrix product over patches.

    Kernel and stride are equal, so this is the same sum as the convolution, whose backward pass
    takes about 15 % of a small model's training step on a CPU.
    """

    def __init__(self, patch_size: PatchSize, *, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Embed an image (B, C, H, W) of checked size as tokens (B, L, D), row-major."""
        patch_height, patch_width = self.proj.kernel_size
        patches_BLP = patchify(x, (patch_height, patch_width), channels_first=True)
        return F.linear(patches_BLP, self.proj.weight.flatten(1), self.proj.bias)


class TubeletEmbed(nn.Module):
    """Embedding of video patches of several frames: a 3-D convolution as one matrix product."""

    def __init__(self, tubelet_size: TubeletSize, *, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, embed_dim, kernel_size=tubelet_size, stride=tubelet_size)

    def forward(self, frames_BFCHW: Tensor) -> Tensor:
        """Embed frames as tokens (B, L, D), ordered (time, row, column)."""
        frames, rows, columns = self.proj.kernel_size
        patches_BLP = patchify_video(frames_BFCHW, (frames, rows, columns), channels_first=True)
        return F.linear(patches_BLP, self.proj.weight.flatten(1), self.proj.bias)


def check_logmel(config: NetworkConfig, logmel_BTM: Tensor) -> None:
    """Refuse log-mels of another size than the network was built for.

    Raises:
        ValueError: names both sizes.
    """
    expected = (config.target_length, config.num_mel_bins)
    if tuple(logmel_BTM.shape[1:]) != expected:
        raise ValueError(
            f"logmel of shape {tuple(logmel_BTM.shape)}: the model was built for "
            f"(B, target_length={expected[0]}, num_mel_bins={expected[1]})"
        )


def check_frames(config: NetworkConfig, frames_BFCHW: Tensor) -> None:
    """Refuse frames of another number or size than the network was built for.

    Raises:
        ValueError: names both.
    """
    num_frames, side = config.num_frames, config.img_size
    if tuple(frames_BFCHW.shape[1:]) != (num_frames, 3, side, side):
        raise ValueError(
            f"frames of shape {tuple(frames_BFCHW.shape)}: the model was built for "
            f"(B, num_frames={num_frames}, 3, img_size={side}, img_size={side})"
        )


def logmel_to_image(logmel_BTM: Tensor) -> Tensor:
    """Turn a log-mel into a one-channel image, frequency as rows: (B, 1, M, T)."""
    return logmel_BTM.transpose(1, 2).unsqueeze(1)


def image_to_logmel(image_B1MT: Tensor) -> Tensor:
    """Undo ``logmel_to_image``: (B, T, M)."""
    return image_B1MT.squeeze(1).transpose(1, 2)


def patchify(image_BCHW: Tensor, patch_size: PatchSize, *, channels_first: bool = False) -> Tensor:
    """Cut an image into patch vectors (B, L, P); a remainder smaller than one patch is dropped.

    ``channels_first`` orders a patch vector as a convolution kernel: (channel, row, column).
    """
    num_clips, num_channels, height, width = image_BCHW.shape
    patch_height, patch_width = patch_size
    rows, columns = height // patch_height, width // patch_width
    image = image_BCHW[:, :, : rows * patch_height, : columns * patch_width]
    image = image.reshape(num_clips, num_channels, rows, patch_height, columns, patch_width)
    order = (0, 2, 4, 1, 3, 5) if channels_first else (0, 2, 4, 3, 5, 1)
    patches = image.permute(order)
    return patches.reshape(num_clips, rows * columns, patch_height * patch_width * num_channels)


def unpatchify(patches_BLP: Tensor, patch_size: PatchSize, grid_size: tuple[int, int]) -> Tensor:
    """Put patch vectors back into images (B, C, rows * patch height, columns * patch width)."""
    num_clips = patches_BLP.shape[0]
    rows, columns = grid_size
    patch_height, patch_width = patch_size
    patches = patches_BLP.reshape(num_clips, rows, columns, patch_height, patch_width, -1)
    image = patches.permute(0, 5, 1, 3, 2, 4)
    return image.reshape(num_clips, -1, rows * patch_height, columns * patch_width)


def patchify_video(
    frames_BFCHW: Tensor, tubelet_size: TubeletSize, *, channels_first: bool = False
) -> Tensor:
    """Cut frames into patch vectors (B, L, P), tokens ordered (time, row, column).

    Inside a vector the order is (frame, row, column, channel), or with ``channels_first`` as a 3-D
    convolution kernel. A remainder smaller than one patch is dropped, frames included.
    """
    num_clips, num_frames, num_channels, height, width = frames_BFCHW.shape
    depth, patch_height, patch_width = tubelet_size
    times, rows, columns = num_frames // depth, height // patch_height, width // patch_width
    x = frames_BFCHW[:, : times * depth, :, : rows * patch_height, : columns * patch_width]
    x = x.reshape(num_clips, times, depth, num_channels, rows, patch_height, columns, patch_width)
    order = (0, 1, 4, 6, 3, 2, 5, 7) if channels_first else (0, 1, 4, 6, 2, 5, 7, 3)
    return x.permute(order).reshape(num_clips, times * rows * columns, -1)


def unpatchify_video(
    patches_BLP: Tensor, tubelet_size: TubeletSize, grid_size: tuple[int, int]
) -> Tensor:
    """Put patch vectors back into frames (B, F, C, H, W); ``grid_size`` = rows, columns."""
    rows, columns = grid_size
    depth, patch_height, patch_width = tubelet_size
    num_clips, num_tokens = patches_BLP.shape[:2]
    times = num_tokens // (rows * columns)
    x = patches_BLP.reshape(
        num_clips, times, rows, columns, depth, patch_height, patch_width, -1
    ).permute(0, 1, 4, 7, 2, 5, 3, 6)
    return x.reshape(num_clips, times * depth, -1, rows * patch_height, columns * patch_width)


def normalise_patches(patches_BLP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each patch vector by its own mean and standard deviation (``norm_pix_loss``).

    Returns:
        The normalised patches (B, L, P), the mean and the standard deviation (B, L, 1).
    """
    mean = patches_BLP.mean(dim=-1, keepdim=True)
    std = torch.sqrt(patches_BLP.var(dim=-1, keepdim=True) + 1e-6)
    return (patches_BLP - mean) / std, mean, std
