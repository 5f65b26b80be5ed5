"""Cheap checks that mark dubious clips without refusing them."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline_src.transcode.audio import to_float

SILENCE_DBFS = -70.0
# Encoders end the picture of whole files up to 0.07 s before the sound.
SHORT_TOLERANCE_SECONDS = 0.1
STATIC_SIZE_SPREAD = 0.05
STATIC_THUMBNAIL_SIDE = 32
STATIC_MEAN_DIFFERENCE = 1.0


def is_silent(samples: np.ndarray) -> bool:
    """Return whether the RMS of int16 ``samples`` is below -70 dBFS."""
    power = float(np.mean(np.square(to_float(samples), dtype=np.float64)))
    return power < 10 ** (SILENCE_DBFS / 10)


def longest_zeros(samples: np.ndarray) -> tuple[int, int]:
    """Return first index and length of the longest run of samples that are 0."""
    edges = np.concatenate(([-1], np.flatnonzero(samples), [len(samples)]))
    gaps = np.diff(edges)
    where = int(np.argmax(gaps))
    return int(edges[where]) + 1, int(gaps[where]) - 1


def is_static(frames: Sequence[bytes]) -> bool:
    """Return whether all JPEG frames are alike: mean grey difference to the first below one level.

    JPEG sizes that differ by more than 5 % decide the common case without decoding.
    """
    sizes = [len(frame) for frame in frames]
    if len(frames) < 2 or max(sizes) - min(sizes) > STATIC_SIZE_SPREAD * max(sizes):
        return False
    first = _thumbnail(frames[0])
    return all(
        np.abs(_thumbnail(frame) - first).mean() < STATIC_MEAN_DIFFERENCE for frame in frames[1:]
    )


def _thumbnail(frame: bytes) -> np.ndarray:
    """Decode a frame to a small grey picture: float32 (H, W)."""
    image = Image.open(io.BytesIO(frame))
    image.draft("L", (STATIC_THUMBNAIL_SIDE, STATIC_THUMBNAIL_SIDE))
    return np.asarray(image.convert("L"), np.float32)
