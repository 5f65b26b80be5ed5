"""Frames of a sample as tensors. Shape legend: H W image side."""

import torch
from torch import Tensor
from torchvision.io import ImageReadMode
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

from pipeline_src.logmel.members import check_frame_size, load_array

# What torchvision.io.decode_jpeg calls; its own checks cost 3 % of a small frame.
DECODE_JPEG = torch.ops.image.decode_jpeg.default
RGB = ImageReadMode.RGB.value

__all__ = ["decode_frame", "load_array"]


def decode_frame(jpeg: memoryview, img_size: int) -> Tensor:
    """Decode a JPEG to (3, H, W) uint8, H = W = img_size: shorter side to it, centre crop.

    Raises:
        ValueError: it would take more memory than a frame that packing writes. RuntimeError:
            damaged.
    """
    check_frame_size(jpeg, img_size)
    data = torch.frombuffer(jpeg, dtype=torch.uint8)
    image: Tensor = DECODE_JPEG(data, RGB, False)
    if image.shape[1:] == (img_size, img_size):
        return image
    resized = resize(image, [img_size], InterpolationMode.BICUBIC, antialias=True)
    return center_crop(resized, [img_size])
