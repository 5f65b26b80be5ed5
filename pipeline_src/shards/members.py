"""The members of a sample as packing writes them, read within bounds.

Their bytes may be anybody's: a header that claims a huge picture or array costs nothing to write.
"""

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MAX_FRAME_PIXELS = 1 << 25  # 16384 x 2048: the shorter side of a stored frame is at most 2048
MAX_HEADER_BYTES = 1 << 10
BASELINE = (0xC0, 0xC1)  # a progressive one may ask for any number of passes over the picture
# Tables, comments and what applications add. Others would let a reader lose the decoder's track.
BEFORE_FRAME = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}
START_OF_IMAGE = b"\xff\xd8"

NPY_VERSION = slice(6, 8)
NPY_HEADER_BYTES = slice(8, 10)
NPY_PREFIX_BYTES = 10


def check_frame_size(jpeg: memoryview, img_size: int) -> None:
    """Refuse a frame that would take more memory than any that packing writes.

    Args:
        img_size: what its shorter side is resized to.
    Raises:
        ValueError: it would, or it is no such JPEG file.
    """
    height, width = jpeg_size(jpeg)
    short, long = sorted((height, width))
    resized = img_size * img_size * long // max(short, 1)
    if not short or max(height * width, resized) > MAX_FRAME_PIXELS:
        raise ValueError(f"a frame of {width} x {height} pixels is not what packing writes")


def jpeg_size(jpeg: memoryview) -> tuple[int, int]:
    """Return height and width as a baseline JPEG's header says, without decoding it.

    Raises:
        ValueError: damaged, or of another kind, which packing never writes.
    """
    position = len(START_OF_IMAGE)
    if jpeg[:position] != START_OF_IMAGE:
        raise ValueError("not a JPEG file")
    while position + 9 <= len(jpeg) and jpeg[position] == 0xFF:
        marker = jpeg[position + 1]
        if marker in BASELINE:
            start = position + 5
            return (jpeg[start] << 8) + jpeg[start + 1], (jpeg[start + 2] << 8) + jpeg[start + 3]
        if marker not in BEFORE_FRAME:
            break
        position += 2 + (jpeg[position + 2] << 8) + jpeg[position + 3]
    raise ValueError("not a baseline JPEG file")


def load_array(npy: memoryview) -> NDArray:
    """Return the array of a .npy member without a copy; a pickled one is refused.

    Returns:
        Of the shape and dtype that the header says.
    Raises:
        ValueError: damaged, or no .npy of version 1, which every array of numbers has.
    """
    if bytes(npy[NPY_VERSION]) != b"\x01\x00":
        raise ValueError("not a .npy file of version 1.0")
    first = NPY_PREFIX_BYTES + int.from_bytes(npy[NPY_HEADER_BYTES], "little")
    if first > MAX_HEADER_BYTES:
        raise ValueError(f"a .npy header of {first} bytes")
    shape, dtype = _npy_layout(bytes(npy[:first]))
    return np.frombuffer(npy, dtype, offset=first).reshape(shape)


@lru_cache(maxsize=64)
def _npy_layout(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and dtype of a header; the arrays of a data set have few different ones.

    Raises:
        ValueError: damaged, or an array of objects or in an order that packing does not write.
    """
    stream = io.BytesIO(header)
    try:
        np.lib.format.read_magic(stream)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # numpy evaluates the header as Python, with that many ways to fail
        raise ValueError(f"damaged .npy header ({type(error).__name__})") from None
    if dtype.hasobject or is_fortran or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} in this order is not what packing writes")
    return shape, dtype
