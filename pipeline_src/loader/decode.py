"""Frames of a sample as tensors. Shape legend: H W image side."""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline_src.shards.members import check_frame_size

RGB = 3  # torchvision.io.ImageReadMode


def _jpeg_operator() -> Any:
    """Load torchvision's image operators.

    Without importing its package, which brings torch's compiler along: 3 s of processor time in
    every process that reads a clip. Its Python function is left out too: its checks cost 3 % of
    a small frame.

    Raises:
        ImportError: torchvision is missing, was built without them, or for another torch.
    """
    spec = find_spec("torchvision")
    places = [Path(one) for one in (spec.submodule_search_locations or ())] if spec else []
    found = [p / f"image{end}" for p in places for end in EXTENSION_SUFFIXES]
    library = next((path for path in found if path.is_file()), None)
    if library is None:
        raise ImportError(f"torchvision's image operators are in none of {places}; install it")
    try:
        torch.ops.load_library(library)
    except OSError as error:
        why = f"not built for torch {torch.__version__}"
        raise ImportError(f"{library}: {why}; install the torchvision of that torch") from error
    return torch.ops.image.decode_jpeg.default


DECODE_JPEG = _jpeg_operator()


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
    return _fit(image, img_size)


def _fit(image_3HW: Tensor, side: int) -> Tensor:
    """Resize the shorter side to ``side``, bicubic, and crop the centre: (3, side, side).

    The values are those of torchvision's resize and center_crop.
    """
    shorter = min(image_3HW.shape[1:])
    size = [
        side if length == shorter else side * length // shorter for length in image_3HW.shape[1:]
    ]
    floats = image_3HW[None].to(torch.float32)
    resized = F.interpolate(floats, size=size, mode="bicubic", align_corners=False, antialias=True)
    top, left = (round((length - side) / 2) for length in size)
    cropped = resized[0, :, top : top + side, left : left + side]
    return cropped.clamp(0, 255).round().to(torch.uint8)
