"""Objectives as published, but for the keys that a test names."""

from functools import partial
from typing import Any

from pipeline_src.methods import find_method
from pipeline_src.methods.common.classify import Classify

CAV_MAE = {
    "contrast_direction": "v2a", "contrast_scope": "local", "contrast_weight": 0.01,
    "temperature": 0.05, "reconstruct_weight": 1.0, "audio_mask": "unstructured",
}  # fmt: skip
MAVIL = {
    "contrast_direction": "both", "contrast_scope": "global", "contrast_weight": 0.1,
    "temperature": 0.1, "intra_weight": 0.01, "intra_temperature": 1.0,
    "reconstruct_weight": 1.0, "audio_mask": "unstructured", "second_view": "encoders",
    "decode_fraction": 1.0, "shared_step": False, "teacher": None,
}  # fmt: skip
PUBLISHED = {
    "avsiam": {
        "contrast_direction": "both", "contrast_scope": "global", "contrast_weight": 1.0,
        "temperature": 0.05, "reconstruct_weight": 1.0, "audio_mask": "time_freq",
        "joint_step": False, "pack_sequences": "auto",
    },
    "cav_mae": CAV_MAE, "cav_mae_sync": CAV_MAE, "mavil": MAVIL, "diffmavil": MAVIL,
}  # fmt: skip


def published_objective(method: str, model: Any, **keys: Any) -> Any:
    """A method's objective, with ``keys`` in place of the published values."""
    return find_method(method).load_objective()(model, **(PUBLISHED[method] | keys))


def published_classifier(model: Any, **keys: Any) -> Classify:
    """AVSiam's fine-tuning, with ``keys`` in place of the published values."""
    published = {
        "task": "multiclass", "label_smoothing": 0.1, "modality_probs": (0.25, 0.25, 0.5),
        "all_heads": False,
    }  # fmt: skip
    return Classify(model, **(published | keys))


avsiam_objective = partial(published_objective, "avsiam")
cav_mae_objective = partial(published_objective, "cav_mae")
cav_mae_sync_objective = partial(published_objective, "cav_mae_sync")
mavil_objective = partial(published_objective, "mavil")
