"""The few figures of a metrics.json that ``dvc metrics show`` prints side by side."""

from typing import Any

from pipeline_src.evaluate.records import (
    DIRECTIONS,
    HEADLINE,
    Estimate,
    EvalMetrics,
    FoldMetrics,
    ProbeMetrics,
    Scored,
)
from pipeline_src.modalities import HEADS

DIGITS = 4


def summarise_evaluation(metrics: EvalMetrics) -> dict[str, Any]:
    """Give accuracy or mAP per input, and R@10 where there is video."""
    scores = {head: _value(metrics.headline(head)) for head in metrics.heads}
    return {HEADLINE[metrics.task]: scores, **_recalls(metrics)}


def summarise_folds(metrics: FoldMetrics) -> dict[str, Any]:
    """Give the mean accuracy or mAP over folds per input, where every fold has one."""
    name = HEADLINE[metrics.task]
    found = {head: metrics.scores(head).get(name) for head in metrics.heads}
    return {name: {head: round(one.value, DIGITS) for head, one in found.items() if one}}


def summarise_probe(metrics: ProbeMetrics) -> dict[str, Any]:
    """Give the linear probe per input, R@10, and the error on hidden patches, where there are."""
    recalls = _recalls(metrics)
    if not metrics.probes:
        return recalls
    probes, errors = metrics.probes["pretrained"], metrics.reconstruction
    return {
        "linear": {name: _value(scores.linear) for name, scores in probes.items()},
        **recalls,
        # DVC takes a key "error" for a file that it could not read.
        "mse": {name: _value(errors[name].model) for name in HEADS if name in errors},
    }


def _recalls(metrics: Scored) -> dict[str, Any]:
    retrieval = metrics.retrieval
    if retrieval is None:
        return {}
    return {"R@10": {name: _value(retrieval.direction(name)["R@10"]) for name in DIRECTIONS}}


def _value(figure: Estimate | None) -> float | None:
    return None if figure is None or figure.value is None else round(figure.value, DIGITS)
