"""A checkpoint as the folder that hubs of models expect; ``load`` reads it back. Nothing is sent.

model.safetensors, config.json (network, classes, recipe), preprocessor_config.json (from a file to
the network's inputs) and README.md, the model card.
"""

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline_src.errors import CheckpointError
from pipeline_src.inference.card import write_card
from pipeline_src.inference.locate import (
    CONFIG_FILE,
    FORMAT_KEY,
    PREPROCESSOR_FILE,
    is_export,
    locate,
)
from pipeline_src.inference.model import Model
from pipeline_src.loader.dataset import IMAGE_MEAN, IMAGE_STD
from pipeline_src.modalities import MODALITIES
from pipeline_src.runs.checkpoint import MODEL_FILE, Checkpoint
from pipeline_src.runs.done import read_done
from pipeline_src.runs.records import read_json_object
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.system.atomic import atomic_path, write_json, write_text

logger = logging.getLogger(__name__)
FORMAT = 1
CARD_FILE = "README.md"
ENCODER_FILES = {modality: f"{modality}_encoder.onnx" for modality in MODALITIES}
STARTED_ON = "started_on"  # in config.json: data of the pre-training before a fine-tuning
PREPROCESSOR_KEYS = ("media", "front_end", "logmel_mean", "logmel_std")
LEFT_OUT = (*PREPROCESSOR_KEYS, "spec", "sha256", "seconds", "num_threads")


def export(source: Path, target: Path) -> Model:
    """Write ``target``; return the model that was exported.

    Args:
        source: whatever ``load`` opens.
    Raises:
        CheckpointError: ``target`` holds something else, or the checkpoint cannot be used.
    """
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target} is a file; name a folder")
    if target.is_dir() and any(target.iterdir()) and not is_export(target):
        raise CheckpointError(f"{target} holds other files; name a new folder")
    checkpoint = locate(source)
    model = Model(checkpoint, device="cpu")
    if _weights_of(target) not in ("", model.sha256):
        logger.warning("%s held the export of another checkpoint, which is replaced", target)
    target.mkdir(parents=True, exist_ok=True)
    for name in ENCODER_FILES.values():  # of the checkpoint that was exported here before
        (target / name).unlink(missing_ok=True)
    if not target.samefile(checkpoint.folder):  # else these weights are the only ones
        # The first says whose the folder is, the last that it is whole: it is that no longer.
        (target / CONFIG_FILE).unlink(missing_ok=True)
        write_json(target / PREPROCESSOR_FILE, _preprocessor(model, checkpoint.state))
        with atomic_path(target / MODEL_FILE) as temporary:
            shutil.copyfile(checkpoint.folder / MODEL_FILE, temporary)
    started_on = _start_data(model, checkpoint.state)
    write_text(target / CARD_FILE, write_card(model, checkpoint, started_on))
    write_json(target / CONFIG_FILE, _config(model, checkpoint, started_on), indent=2)
    return model


def _weights_of(target: Path) -> str:
    """Return the hash of the weights that a folder exports; empty where it is no whole export."""
    with suppress(CheckpointError):
        return read_json_object(target / CONFIG_FILE, {"sha256": dict}, "")["sha256"].get(
            MODEL_FILE, ""
        )
    return ""


def _start_data(model: Model, state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the data of the pre-training that it began with, where that is still there."""
    if STARTED_ON in state:
        return state[STARTED_ON]
    start = model.spec.initial_checkpoint
    if start is None or not start.is_file():
        return []
    begun = read_done(start).state
    return begun.get("data") or begun.get("trained_on") or []


def _config(
    model: Model, checkpoint: Checkpoint, started_on: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the network is and where it comes from, without paths of this machine."""
    state = checkpoint.state
    return {
        FORMAT_KEY: FORMAT,
        "library_name": "av-pipeline",
        "model_type": model.spec.model.method,
        "network": model.network.config.model_dump(mode="json"),
        "id2label": {str(number): name for number, name in enumerate(model.class_names)},
        **{key: value for key, value in state.items() if key not in LEFT_OUT},
        STARTED_ON: started_on,
        "spec": _portable(model.spec).model_dump(mode="json"),
        "sha256": {MODEL_FILE: model.sha256},
    }


def _portable(spec: TrainSpec) -> TrainSpec:
    """Return a spec without what names files of the machine that trained."""
    recipe = type(spec.recipe).model_validate(spec.recipe.recipe_values())
    model = spec.model.model_copy(update={"init": "random"})
    return TrainSpec(stage=spec.stage, run_dir=Path(), model=model, recipe=recipe)


def _preprocessor(model: Model, state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: state[key] for key in PREPROCESSOR_KEYS},
        "image_mean": IMAGE_MEAN,
        "image_std": IMAGE_STD,
        "img_size": model.format.img_size,
        "target_length": model.format.target_length,
        "num_frames": model.num_frames,
        "modalities": list(model.modalities),
    }
