"""Members of a sample as arrays and tensors. Shape legend: H W image side."""

import io
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.io import ImageReadMode
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

NPY_VERSION = slice(6, 8)
NPY_HEADER_BYTES = slice(8, 10)
NPY_PREFIX_BYTES = 10
# What torchvision.io.decode_jpeg calls; its own checks cost 3 % of a small frame.
DECODE_JPEG = torch.ops.image.decode_jpeg.default
RGB = ImageReadMode.RGB.value


def decode_frame(jpeg: memoryview, img_size: int) -> Tensor:
    """JPEG -> (3, H, W) uint8 with H = W = img_size: shorter side to img_size, centre crop."""
    data = torch.frombuffer(jpeg, dtype=torch.uint8)
    image: Tensor = DECODE_JPEG(data, RGB, False)
    if image.shape[1:] == (img_size, img_size):
        return image
    resized = resize(image, [img_size], InterpolationMode.BICUBIC, antialias=True)
    return center_crop(resized, [img_size])


def load_array(npy: memoryview) -> NDArray:
    """The array of a .npy member, without a copy; a pickled one is refused.

    Raises:
        ValueError: damaged, or no .npy of version 1, which every array of numbers has.
    """
    if bytes(npy[NPY_VERSION]) != b"\x01\x00":
        raise ValueError("not a .npy file of version 1.0")
    first = NPY_PREFIX_BYTES + int.from_bytes(npy[NPY_HEADER_BYTES], "little")
    shape, dtype = _npy_layout(bytes(npy[:first]))
    return np.frombuffer(npy, dtype, offset=first).reshape(shape)


@lru_cache(maxsize=64)
def _npy_layout(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that a header says; the arrays of a data set have few different ones."""
    stream = io.BytesIO(header)
    np.lib.format.read_magic(stream)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or is_fortran:
        raise ValueError(f"an array of {dtype} in this order is not what packing writes")
    return shape, dtype
