"""The few figures of a metrics.json that ``dvc metrics show`` prints side by side."""

from collections.abc import Mapping
from typing import Any

MODALITIES = ("audio", "video", "audio_video")
DIRECTIONS = ("audio_to_video", "video_to_audio")
DIGITS = 4


def summarise_evaluation(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy or mAP per input, and R@10 where there is video."""
    metric = headline(metrics["task"])
    scores = {head: _value(metrics[head][metric]) for head in metrics["heads"]}
    return {metric: scores, **_recalls(metrics)}


def headline(task: str) -> str:
    """The metric that the field quotes for a task."""
    return "accuracy" if task == "multiclass" else "mAP"


def summarise_probe(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Linear probe per input, R@10, and the error on hidden patches; what there is of them."""
    recalls = _recalls(metrics)
    if not metrics["probes"]:
        return recalls
    probes, errors = metrics["probes"]["pretrained"], metrics["reconstruction"]
    return {
        "linear": {name: _value(scores["linear"]) for name, scores in probes.items()},
        **recalls,
        # DVC takes a key "error" for a file that it could not read.
        "mse": {name: _value(errors[name]["model"]) for name in MODALITIES if name in errors},
    }


def _recalls(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {"R@10": _recall(metrics["retrieval"])} if "retrieval" in metrics else {}


def _recall(retrieval: Mapping[str, Any]) -> dict[str, float | None]:
    return {direction: _value(retrieval[direction]["R@10"]) for direction in DIRECTIONS}


def _value(interval: Mapping[str, Any]) -> float | None:
    value = interval["value"]
    return None if value is None else round(value, DIGITS)
