"""What a page shows of a clip: a small picture of it and its spectrogram, as JPEG.

Shape legend: T log-mel frames, M mel bins, G segments of sound, F frames, H W image side.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline_src.inference.decode import DecodedInput

PICTURE_SIDE, SPECTROGRAM_SIZE = 192, (320, 96)
QUALITY = 82
COLOURS = (  # dark to bright, evenly brighter, so that colour-blind readers lose nothing
    *((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99)),
    *((212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164)),
)
DARK_TO_BRIGHT = (2, 99.5)  # percentiles of a clip's log-mel


def preview_picture(seen: DecodedInput) -> bytes:
    """Show the middle frame that the network was shown; empty without pictures."""
    if seen.frames_FHW3 is None:
        return b""
    image = Image.fromarray(seen.frames_FHW3[len(seen.frames_FHW3) // 2])
    if image.width > PICTURE_SIDE:
        image = image.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BILINEAR)
    return _jpeg(image)


def preview_sound(seen: DecodedInput) -> bytes:
    """Show the log-mel that the network was shown, low tones at the bottom; empty without sound."""
    if seen.logmel_TM is None:
        return b""
    logmel_TM = seen.logmel_TM.reshape(-1, seen.logmel_TM.shape[-1]).astype(np.float32)
    heard = logmel_TM[: _heard_length(logmel_TM)]
    low, high = np.percentile(heard, DARK_TO_BRIGHT)
    shares = np.clip((heard - low) / max(float(high - low), 1e-6), 0, 1)
    grey = Image.fromarray((shares.T[::-1] * 255).astype(np.uint8))
    scaled = np.asarray(grey.resize(SPECTROGRAM_SIZE, Image.Resampling.BILINEAR))
    return _jpeg(Image.fromarray(_colour_map()[scaled]))


def _heard_length(logmel_TM: NDArray) -> int:
    """Count frames before the padding, which is 0; at least one."""
    sounding = np.flatnonzero(np.any(logmel_TM != 0, axis=1))
    return int(sounding[-1]) + 1 if len(sounding) else 1


def _colour_map() -> NDArray:
    """Make the colours (256, 3) uint8 of the shades of grey."""
    points = np.linspace(0, 255, len(COLOURS))
    channels = [
        np.interp(np.arange(256), points, channel) for channel in zip(*COLOURS, strict=True)
    ]
    return np.stack(channels, axis=1).astype(np.uint8)


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
