"""Decode the FLAC that transcoding wrote, in process."""

import io

import av
import numpy as np
from av.error import FFmpegError

from pipeline_src.errors import MediaError

FULL_SCALE = 32768.0
MAX_SAMPLES = 1 << 28  # an hour and a half at 48 kHz; FLAC packs silence a thousand times smaller


def read_flac(data: bytes) -> np.ndarray:
    """Decode mono 16-bit FLAC to int16 samples of shape (num_samples,).

    Raises:
        MediaError: corrupt, or longer than any clip.
    """
    parts: list[np.ndarray] = []
    num_samples = 0
    try:
        with av.open(io.BytesIO(data), "r", format="flac") as container:
            for frame in container.decode(audio=0):
                num_samples += frame.samples
                if num_samples > MAX_SAMPLES:
                    raise MediaError("unsupported", f"FLAC of more than {MAX_SAMPLES} samples")
                parts.append(frame.to_ndarray()[0])
    except (FFmpegError, IndexError, ValueError) as error:
        raise MediaError("corrupt", f"FLAC not readable: {error}") from error
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def to_float(samples: np.ndarray) -> np.ndarray:
    """Convert int16 to float32 in [-1, 1), of the same shape."""
    return samples.astype(np.float32) / FULL_SCALE
