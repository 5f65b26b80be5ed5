"""What a clip shows and tells at each time, compared with the whole recording it was damaged from.

Shape legend: T pictures of the recording, S side of a thumbnail.
"""

import io
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

RATE = 16000
SIDE = 32
WINDOW_SECONDS = 0.5
SEARCH_SECONDS = 1.5
# Sound that is so much alike elsewhere, and not where it belongs, is at a wrong time.
ALIKE, UNLIKE = 0.85, 0.5
MAX_LAG_SECONDS = 0.11  # shorter gaps close up until they add up to 0.1 s
# Mean grey difference of a picture that is found elsewhere, and how much worse its own place is.
FOUND_LEVELS, WORSE_LEVELS = 4.0, 8.0
QUIET = 0.003


class Recording(NamedTuple):
    """Sound at 16 kHz from the file's start, and small grey pictures (T, S, S) with their times."""

    samples: np.ndarray
    pictures_TSS: np.ndarray
    seconds_T: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "Recording":
        """Decode a whole file in process."""
        pictures, seconds, parts = [], [], []
        mono = av.AudioResampler("flt", "mono", RATE)
        with av.open(str(path)) as container:
            start = (container.start_time or 0) / 1e6
            for frame in container.decode():
                if isinstance(frame, av.VideoFrame):
                    pictures.append(thumbnail(frame.to_image()))
                    seconds.append(frame.time - start)
                elif isinstance(frame, av.AudioFrame):
                    if not parts and frame.time > start:
                        parts.append(np.zeros(round((frame.time - start) * RATE), np.float32))
                    parts += [part.to_ndarray()[0] for part in mono.resample(frame)]
        return cls(np.concatenate(parts), np.stack(pictures), np.array(seconds))


def thumbnail(image: Image.Image) -> np.ndarray:
    """The middle square in grey."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).convert("L")
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)


def read_picture(jpeg: bytes) -> np.ndarray:
    """The same of a stored frame."""
    return thumbnail(Image.open(io.BytesIO(jpeg)))


def wrong_sound(samples: np.ndarray, recording: Recording, start_seconds: float) -> str:
    """Where sound is at a wrong time; empty where it is not, or is no sound of the recording.

    Args:
        samples: float, of a clip that begins ``start_seconds`` after the recording.
    """
    size, reach = round(WINDOW_SECONDS * RATE), round(SEARCH_SECONDS * RATE)
    padded = np.pad(recording.samples, (reach + size, reach + size))
    for first in range(0, len(samples) - size, size):
        window = samples[first : first + size]
        begin = round(start_seconds * RATE) + first + size  # in ``padded``, ``reach`` early
        nearby = padded[max(begin, 0) : begin + 2 * reach + size]
        if begin < 0 or len(nearby) < 2 * reach + size or np.sqrt((window**2).mean()) < QUIET:
            continue
        alike = _correlate(window, nearby)
        best = int(np.argmax(alike))
        lag = (best - reach) / RATE
        near = alike[reach - round(MAX_LAG_SECONDS * RATE) : reach + round(MAX_LAG_SECONDS * RATE)]
        if abs(lag) > MAX_LAG_SECONDS and alike[best] > ALIKE and near.max() < UNLIKE:
            return f"sound at {first / RATE:g} s is {-lag:+.2f} s off"
    return ""


def _correlate(window: np.ndarray, nearby: np.ndarray) -> np.ndarray:
    """Normalised cross-correlation at each lag."""
    count = len(nearby) - len(window) + 1
    length = 1 << (len(nearby) + len(window)).bit_length()
    product = np.fft.rfft(nearby, length) * np.conj(np.fft.rfft(window, length))
    power = np.cumsum(np.pad(nearby.astype(np.float64) ** 2, (1, 0)))
    energy = power[len(window) :] - power[: -len(window)]
    norm = np.sqrt(np.maximum(energy, 1e-9) * (window.astype(np.float64) ** 2).sum())
    return np.fft.irfft(product, length)[:count] / norm


def wrong_picture(
    picture_SS: np.ndarray,
    recording: Recording,
    seconds: float,
    *,
    slack_seconds: float,
    may_be_earlier: bool,
) -> str:
    """Whether a picture is of another time than ``seconds`` of the recording; empty if not.

    Args:
        may_be_earlier: pictures are missing, so an earlier one is shown for longer.
    """
    levels_T = np.abs(recording.pictures_TSS - picture_SS).mean((1, 2))
    first = np.searchsorted(recording.seconds_T, seconds - slack_seconds, "right") - 1
    near = recording.seconds_T <= seconds + slack_seconds
    near[: 0 if may_be_earlier else max(0, first)] = False
    near[0] |= not near.any()
    best = int(np.argmin(levels_T))
    if levels_T[best] < FOUND_LEVELS and levels_T[near].min() > levels_T[best] + WORSE_LEVELS:
        return f"picture of {recording.seconds_T[best]:.2f} s at {seconds:.2f} s"
    return ""
