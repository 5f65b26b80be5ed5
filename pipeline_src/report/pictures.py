"""Reconstruction panel: what a few clips look and sound like before, masked, and after the model.

Shape legend: T log-mel frames, M mel bins, H, W frame height and width.
"""

import base64
import io

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image as PillowImage

from pipeline_src.modalities import MODALITIES, Modality
from pipeline_src.report.blocks import Image, ImageRow
from pipeline_src.report.load import Arrays

PARTS = ("input", "masked", "reconstructed")
ARRAY_NAMES = (
    "clip_ids",
    *(f"{modality}_{part}" for modality in MODALITIES for part in PARTS),
)
# Of methods whose decoder denoises: the step of each state, and its pictures.
DENOISED_NAMES = ("denoised_steps", "audio_denoised", "video_denoised")
CAPTION = (
    "the input, what the model was shown (grey = hidden), and its reconstruction. Log-mel: time to "
    "the right, frequency upwards."
)
DENOISED_CAPTION = (
    " Below, states of the sampler from noise (t = T) to its prediction (t = 0); where patches are "
    "normalised one by one, the true mean and deviation of each hidden patch are used."
)
COLOUR_MAP = "magma"
HIDDEN_RGB = np.array((128, 132, 138), dtype=np.uint8)
SMALL_SIDE_PIXELS = 96  # below: PNG, shown with sharp pixels; above: JPEG
JPEG_QUALITY = 82


def reconstruction_rows(arrays: Arrays, num_examples: int) -> list[ImageRow]:
    """Draw six pictures per clip: log-mel and frame, each as input, masked and reconstructed.

    Where the arrays hold them, also a row of the states from noise to prediction.

    Raises:
        ValueError: an array has an unexpected shape.
    """
    rows = []
    for index, clip_id in enumerate(arrays["clip_ids"][:num_examples]):
        images = [
            *_pictures("audio", [arrays[f"audio_{part}"][index] for part in PARTS], str(clip_id)),
            *_pictures("video", [arrays[f"video_{part}"][index] for part in PARTS], str(clip_id)),
        ]
        rows.append(ImageRow(str(clip_id), images))
        if DENOISED_NAMES[0] in arrays:
            rows.append(_denoised_row({name: arrays[name][index] for name in arrays}))
    return rows


def rows_caption(arrays: Arrays) -> str:
    """Say what the rows show."""
    return CAPTION + DENOISED_CAPTION if DENOISED_NAMES[0] in arrays else CAPTION


def _denoised_row(clip: Arrays) -> ImageRow:
    """Draw states of one clip by diffusion step, log-mels before frames."""
    images = []
    low, high = np.nanpercentile(clip["audio_input"], (1, 99))
    for kind, states in (("log-mel", clip["audio_denoised"]), ("frame", clip["video_denoised"])):
        for step, values in zip(clip["denoised_steps"], states, strict=True):
            is_audio = kind == "log-mel"
            rgb = _spectrogram_rgb(values, low, high) if is_audio else _frame_rgb(values)
            rgb = rgb.transpose(1, 0, 2)[::-1] if is_audio else rgb
            alt = f"{kind} of clip {clip['clip_ids']}, diffusion step {step}"
            images.append(_image(rgb, title=f"{kind}, t = {step}", alt=alt))
    return ImageRow(f"{clip['clip_ids']}, denoising", images)


def _pictures(modality: Modality, parts: list[NDArray], clip_id: str) -> list[Image]:
    original, masked, reconstructed = parts
    if not original.ndim == reconstructed.ndim == (2 if modality == "audio" else 3):
        raise ValueError(f"{modality} of clip {clip_id}: shapes {[part.shape for part in parts]}")
    # The model reconstructs whole patches: a rest at the edges of the input is not shown.
    original = original[tuple(slice(size) for size in reconstructed.shape)]
    low, high = np.nanpercentile(original, (1, 99)) if modality == "audio" else (0.0, 1.0)
    hidden = _hidden(masked, original.shape[:2])
    pictures = []
    for name, values in zip(PARTS, (original, masked, reconstructed), strict=True):
        shown = original if name == "masked" and masked.dtype == bool else values
        rgb = _spectrogram_rgb(shown, low, high) if modality == "audio" else _frame_rgb(shown)
        if name == "masked":
            rgb = np.where(hidden[..., None], HIDDEN_RGB, rgb)
        if modality == "audio":
            rgb = rgb.transpose(1, 0, 2)[::-1]  # time to the right, frequency upwards
        kind = "log-mel" if modality == "audio" else "frame"
        alt = f"{kind} of clip {clip_id}, {name}"
        pictures.append(_image(rgb, title=f"{kind}, {name}", alt=alt))
    return pictures


def _hidden(masked: NDArray, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Tell where a mask (True = hidden) or a masked input (NaN = hidden) shows nothing.

    Returns:
        (T, M) or (H, W).

    Raises:
        ValueError: the mask has another shape.
    """
    hidden = np.asarray(masked if masked.dtype == bool else np.isnan(masked.astype(np.float64)))
    if hidden.ndim == 3:
        hidden = np.asarray(hidden.all(axis=2))
    if hidden.shape != shape:
        raise ValueError(f"mask {masked.shape} does not fit an input of {shape}")
    return hidden


def _spectrogram_rgb(values_TM: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    """Colour a log-mel between two levels: (T, M, 3)."""
    scaled_TM = np.nan_to_num((values_TM.astype(np.float64) - low) / max(high - low, 1e-9))
    return (colormaps[COLOUR_MAP](np.clip(scaled_TM, 0, 1))[..., :3] * 255).astype(np.uint8)


def _frame_rgb(values_HW3: NDArray) -> NDArray[np.uint8]:
    """Return a frame of values in [0, 1], or of bytes, as bytes (H, W, 3)."""
    if values_HW3.dtype == np.uint8:
        return values_HW3
    return (np.clip(np.nan_to_num(values_HW3.astype(np.float64)), 0, 1) * 255).astype(np.uint8)


def _image(rgb: NDArray[np.uint8], *, title: str, alt: str) -> Image:
    is_small = min(rgb.shape[:2]) < SMALL_SIDE_PIXELS
    stream = io.BytesIO()
    picture = PillowImage.fromarray(np.ascontiguousarray(rgb))
    if is_small:
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    kind = "png" if is_small else "jpeg"
    content = base64.b64encode(stream.getvalue()).decode("ascii")
    return Image(title, f"data:image/{kind};base64,{content}", alt, is_pixelated=is_small)
