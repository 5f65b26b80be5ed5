"""Decode the FLAC that transcoding wrote, in process."""

import io

import av
import numpy as np
from av.error import FFmpegError

from pipeline_src.errors import MediaError

FULL_SCALE = 32768.0


def read_flac(data: bytes) -> np.ndarray:
    """Decode mono 16-bit FLAC to int16 samples of shape (num_samples,).

    Raises:
        MediaError: corrupt.
    """
    try:
        with av.open(io.BytesIO(data), "r", format="flac") as container:
            parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    except (FFmpegError, IndexError) as error:
        raise MediaError("corrupt", f"FLAC not readable: {error}") from error
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def to_float(samples: np.ndarray) -> np.ndarray:
    """int16 -> float32 in [-1, 1)."""
    return samples.astype(np.float32) / FULL_SCALE
