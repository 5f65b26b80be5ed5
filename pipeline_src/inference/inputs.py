"""What a model may be given: files, folders, URLs, bytes and arrays, each with a name.

Shape legend: S samples, F frames, H W image sides.
"""

import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline_src.datasets.folder_walk import walk
from pipeline_src.datasets.sources import source_kind
from pipeline_src.download.bodies import RECORDINGS
from pipeline_src.errors import ConfigError
from pipeline_src.system.url_secrets import hide_secrets

# Decoders and mixers overshoot 1 by little; int16 turned into floats is far above.
MAX_FLOAT_SAMPLE = 8.0
STILLS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
MAX_RATE_HZ = 768_000
PCM, FLOAT = 1, 3  # formats of WAV


@dataclass(frozen=True, eq=False)
class ClipArrays:
    """A clip in memory; what is None is not there.

    Args:
        sound: (S,) mono, integers of 16 bits or floats in [-1, 1).
        sample_rate_hz: of the sound, a whole number; 0 = the model's.
        frames: (F, H, W, 3) uint8, evenly spread over the clip, or one picture (H, W, 3).
    """

    sound: NDArray | None = None
    sample_rate_hz: int = 0
    frames: NDArray | None = None


class Item(NamedTuple):
    """One thing to look at: its name, and where it is.

    Args:
        source: a local file, the URL of one, the bytes of one, or arrays.
    """

    name: str
    source: "Path | str | bytes | ClipArrays"


def list_items(inputs: Any) -> list[Item]:
    """List all that ``inputs`` names, in order; a folder stands for the recordings below it.

    Args:
        inputs: a path, a URL, bytes, an array, a ``ClipArrays``, or an iterable of these.
    Raises:
        ConfigError: something else.
    """
    if isinstance(inputs, (str, Path, bytes, bytearray, memoryview, ClipArrays, Item)):
        return list(_expand(inputs, 0))
    if hasattr(inputs, "__array__") or not isinstance(inputs, Iterable):
        return list(_expand(inputs, 0))
    return [item for number, one in enumerate(inputs) for item in _expand(one, number)]


def _expand(one: Any, number: int) -> Iterator[Item]:
    if isinstance(one, Item):
        yield one
    elif isinstance(one, str) and not one:  # as a path it would be the current folder
        raise ConfigError(f'input {number} is ""; name a file, a folder (here: ".") or a URL')
    elif isinstance(one, str) and source_kind(one) != "local":
        yield Item(hide_secrets(one), one)
    elif isinstance(one, (str, Path)):
        path = Path(one)
        files = folder_files(path) if path.is_dir() else [path]
        yield from (Item(str(file), file) for file in files)
    elif isinstance(one, (bytes, bytearray, memoryview)):
        yield Item(f"bytes {number}", bytes(one))
    elif isinstance(one, ClipArrays):
        yield Item(f"arrays {number}", _checked(one))
    elif hasattr(one, "__array__"):
        yield Item(f"array {number}", _checked(_by_shape(np.asarray(one))))
    else:
        raise ConfigError(
            f"input {number} is a {type(one).__name__}; allowed: paths, folders, URLs, bytes, "
            "arrays and ClipArrays"
        )


def folder_files(folder: Path) -> list[Path]:
    """List recordings and pictures below a folder, by their names, sorted.

    Hidden files and what systems keep beside a user's are left out, as ``av-pipeline list`` does;
    pipes and sockets too. A link to nothing is listed: it is refused when it is read.

    Raises:
        ManifestError: a folder cannot be read.
    """
    files = (folder / name for name in walk(folder).files)
    named = (path for path in files if path.suffix.lower() in RECORDINGS | STILLS)
    return sorted(path for path in named if path.is_file() or not path.exists())


def _by_shape(array: NDArray) -> ClipArrays:
    """Take an array of one axis for sound (S,), any other for frames."""
    return ClipArrays(sound=array) if array.ndim == 1 else ClipArrays(frames=array)


def _checked(clip: ClipArrays) -> ClipArrays:
    """Refuse arrays of shapes or types that mean nothing here; sound (S,), frames (F, H, W, 3).

    Raises:
        ConfigError: names the shape and type and what is allowed.
    """
    sound = None if clip.sound is None else np.asarray(clip.sound)
    frames = None if clip.frames is None else np.asarray(clip.frames)
    if sound is None and frames is None:
        raise ConfigError("ClipArrays: neither sound nor frames")
    if sound is not None:
        is_pcm = sound.dtype == np.int16  # wider integers do not say what is loud
        if sound.ndim != 1 or not (is_pcm or sound.dtype.kind == "f"):
            raise ConfigError(
                f"sound of shape {sound.shape}, {sound.dtype}; allowed: (samples,), mono, int16 "
                "or floats in [-1, 1)"
            )
        known = sound[np.isfinite(sound)]  # the others are counted as bad samples
        largest = float(np.abs(known).max(initial=0)) if sound.dtype.kind == "f" else 0.0
        if largest > MAX_FLOAT_SAMPLE:
            raise ConfigError(
                f"sound of {sound.dtype} up to {largest:g}; allowed: floats in [-1, 1), or the "
                "samples as int16"
            )
    if frames is not None:
        frames = frames[None] if frames.ndim == 3 else frames
        is_picture = frames.ndim == 4 and frames.shape[-1] == 3 and frames.dtype == np.uint8
        if not is_picture or not frames.size:
            raise ConfigError(
                f"frames of shape {frames.shape}, {frames.dtype}; allowed: "
                "([frames,] height, width, 3), uint8"
            )
    return ClipArrays(sound, _checked_rate(clip.sample_rate_hz), frames)


def _checked_rate(rate_hz: Any) -> int:
    is_number = isinstance(rate_hz, (int, float, np.number)) and not isinstance(rate_hz, bool)
    value = float(rate_hz) if is_number else -1.0
    if not value.is_integer() or not 0 <= value <= MAX_RATE_HZ:
        raise ConfigError(
            f"sample_rate_hz = {rate_hz!r}; allowed: a whole number up to {MAX_RATE_HZ}, 0 = the "
            "model's"
        )
    return int(value)


def wav_bytes(sound_S: NDArray, sample_rate_hz: int) -> bytes:
    """Return a WAV file of mono samples: int16 as they are, everything else as 32-bit floats."""
    is_pcm = sound_S.dtype == np.int16
    data = np.ascontiguousarray(sound_S, "<i2" if is_pcm else "<f4").tobytes()
    size = 2 if is_pcm else 4
    kind = PCM if is_pcm else FLOAT
    layout = struct.pack("<HHIIHH", kind, 1, sample_rate_hz, sample_rate_hz * size, size, 8 * size)
    stream = io.BytesIO()
    for name, content in ((b"fmt ", layout), (b"data", data)):
        stream.write(name + struct.pack("<I", len(content)) + content)
    chunks = stream.getvalue()
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
