"""Pictures that are files or arrays, made frames as transcoding makes them of video."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError
from pipeline_src.transcode.filters import MAX_ASPECT

# Of PIL's readers those of pictures alone: no PostScript, no PDF, nothing that runs a program.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
JPEG_QUALITY = 95  # about ffmpeg's -q:v 2
WHITE_IS_ZERO = 0  # of TIFF's photometric interpretations
WIDE_MODES = ("I", "F")  # PIL's: integers and floats of 32 bits
HALF_COLOURS = 2  # 4:2:0, as the frames of video


def read_still(path: Path, media: MediaConfig) -> bytes:
    """Return a picture's file as one upright JPEG frame; of an animation the first.

    Raises:
        MediaError: unsupported (format, size) or corrupt.
    """
    try:
        with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
            width, height = image.size
            if width * height > media.max_pixels:
                raise MediaError(
                    "unsupported", f"{width}x{height} pixels; media.max_pixels={media.max_pixels}"
                )
            upright = _eight_bits(ImageOps.exif_transpose(image), getattr(image, "tag_v2", {}))
            return frame_jpeg(upright.convert("RGB"), media)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        known = ", ".join(FORMATS)
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"  # names a buffer
        raise MediaError("unsupported", f"picture not read; allowed: {known}{why}") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # PIL's ways to say damaged
        raise MediaError("corrupt", f"picture not readable: {error}") from error


def _eight_bits(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Scale grey of 9 to 16 bits; PIL's own conversion cuts all above 255 off.

    Args:
        tags: of a TIFF; other formats have 16 bits or 8.
    Raises:
        MediaError: unsupported, signed values or some of 32 bits, which do not say what is white.
    """
    if image.mode.startswith("I;16"):
        (bits,) = tags.get(BITSPERSAMPLE, (16,))
        grey = (np.asarray(image) >> bits - 8).astype(np.uint8)
        is_inverted = tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO
        return Image.fromarray(255 - grey if is_inverted else grey)
    if image.mode in WIDE_MODES:
        raise MediaError(
            "unsupported", "signed pixels or some of 32 bits; save it with 8 or 16 bits a channel"
        )
    return image


def frame_jpegs(frames_FHW3: NDArray, media: MediaConfig) -> list[bytes]:
    """Encode arrays as JPEG frames."""
    return [frame_jpeg(Image.fromarray(np.ascontiguousarray(one)), media) for one in frames_FHW3]


def frame_jpeg(image: Image.Image, media: MediaConfig) -> bytes:
    """Scale and crop an RGB picture as ``media.frame_fit`` says; its JPEG file."""
    side = media.frame_size
    fitted = image.resize(_size(image.size, media), Image.Resampling.BILINEAR)
    if media.frame_fit == "crop":
        left, top = ((length - side) // 2 for length in fitted.size)
        fitted = fitted.crop((left, top, left + side, top + side))
    stream = io.BytesIO()
    fitted.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=HALF_COLOURS)
    return stream.getvalue()


def _size(size: tuple[int, int], media: MediaConfig) -> tuple[int, int]:
    side = media.frame_size
    if media.frame_fit not in ("crop", "short_side"):
        return side, side
    width, height = size
    across = min(max(width / height, 1), MAX_ASPECT)
    down = min(max(height / width, 1), MAX_ASPECT)
    return -int(-side * across // 1), -int(-side * down // 1)
