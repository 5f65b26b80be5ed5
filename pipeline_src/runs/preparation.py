"""How the media of a checkpoint were prepared, and what its clips are: what its use needs.

state.json holds it as ``media`` (the section media), ``front_end`` (the section audio and the
sample rate) and ``data`` (its data sets with licences and counts).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline_src.config.data import AudioConfig, MediaConfig
from pipeline_src.errors import CheckpointError
from pipeline_src.methods import NetworkConfig

DATA_KEYS = ("dataset", "collection", "split", "num_clips", "num_clips_in_list")


@dataclass(frozen=True)
class Preparation:
    """From a file to what the network was trained on.

    Args:
        logmel_mean, logmel_std: of the training clips, in nats.
    """

    media: MediaConfig
    audio: AudioConfig
    logmel_mean: float
    logmel_std: float


def describe_media(index: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the section media of an index; None where it was written before 0.2."""
    return index.get("media")


def describe_data(index_paths: Sequence[Path]) -> dict[str, Any]:
    """Return ``media`` and ``data`` that a training learns from; media is the first index's."""
    indexes = [json.loads(path.read_text(encoding="utf-8")) for path in index_paths]
    data = [
        {**{key: index.get(key) for key in DATA_KEYS}, "licence": index.get("licence", "")}
        for index in indexes
    ]
    media = next(filter(None, map(describe_media, indexes)), None)
    return {"media": media, "data": data}


def published_preparation(config: NetworkConfig) -> dict[str, Any]:
    """Return ``media`` and ``front_end`` of published weights: CAV-MAE's, which AVSiam took over.

    16 kHz, Hanning windows of 25 ms each 10 ms, the method's number of frames, cropped to the
    network's side.
    """
    media = MediaConfig(
        frame_size=config.img_size, num_frames=max(config.published_frames, config.num_frames)
    )
    audio = AudioConfig(num_mel_bins=config.num_mel_bins)
    front_end = {**audio.model_dump(mode="json"), "sample_rate_hz": media.sample_rate_hz}
    return {"media": media.recipe_values(), "front_end": front_end}


def read_preparation(state: Mapping[str, Any], folder: Path) -> Preparation:
    """Return the preparation that a checkpoint's state names.

    Raises:
        CheckpointError: it names none, or one with keys or values that do not exist.
    """
    media, front_end = state.get("media"), state.get("front_end")
    if not media or not front_end:
        raise CheckpointError(
            f"{folder}: does not say how its media were prepared, it was made before 0.2; "
            f"`av-pipeline complete {folder}` adds it"
        )
    try:
        audio = {key: front_end[key] for key in front_end if key != "sample_rate_hz"}
        return Preparation(
            MediaConfig.model_validate(media),
            AudioConfig.model_validate(audio),
            float(state["logmel_mean"]),
            float(state["logmel_std"]),
        )
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: damaged description of its media: {error}; "
            f"`av-pipeline complete {folder}` writes it anew"
        ) from None
