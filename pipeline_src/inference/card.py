"""The model card of an exported checkpoint, made from what is known of it; nothing is guessed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from pipeline_src.catalog import paths
from pipeline_src.evaluate.records import (
    DIRECTIONS,
    Estimate,
    EvalMetrics,
    ProbeMetrics,
    Retrieval,
)
from pipeline_src.inference.locate import training_folder
from pipeline_src.inference.model import Model
from pipeline_src.methods import find_method
from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.runs.spec import DONE_FILE

UNKNOWN = "not known"
METRICS = ("accuracy", "top5_accuracy", "mAP")
USE = """```python
from pipeline_src import load

model = load("path/to/this/folder")
for one in model.{call}(["clip.mp4", "sound.wav", "picture.jpg"]):
    print(one.span.source, {shown})
```"""
LIMITS = """- Figures hold for the data and splits that they name. Other recordings, languages,
  cameras and populations were not measured.
- Embeddings of sound and picture are comparable as far as the retrieval figures say.
- {hearing}
- It decides nothing about people: it was neither built nor tested for that."""


def write_card(
    model: Model, checkpoint: Checkpoint, started_on: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the text of README.md.

    Args:
        started_on: data sets of the pre-training that a fine-tuning began with.
    """
    paper = find_method(model.spec.model.method).citation
    sections = (
        ("", _summary(model)),
        ("Use", _use(model)),
        ("Data", _data(checkpoint.state, started_on)),
        ("Recipe", _recipe(model, checkpoint.state)),
        ("Metrics", _metrics(model, training_folder(checkpoint))),
        ("Operations", _operations(model, training_folder(checkpoint))),
        ("Limits", _limits(model)),
        *([("Citation", f"The method's paper:\n\n```bibtex\n{paper}\n```")] if paper else []),
    )
    body = [f"## {title}\n\n{text}" if title else text for title, text in sections]
    return "\n\n".join([_front_matter(model, checkpoint.state), *body]) + "\n"


def _front_matter(model: Model, state: Mapping[str, Any]) -> str:
    """Return what hubs read.

    The terms of the weights are those of the data, which they cannot name.
    """
    names = sorted({str(one["dataset"]) for one in state.get("data") or ()})
    lines = ["---", "library_name: av-pipeline", "license: other", "license_name: see-data"]
    task = "video-classification" if model.heads else "feature-extraction"
    lines += [f"pipeline_tag: {task}", "tags:", "- audio-visual", f"- {model.spec.model.method}"]
    if names:
        lines += ["datasets:", *(f"- {name}" for name in names)]
    return "\n".join([*lines, "---"])


def _summary(model: Model) -> str:
    config = model.network.config
    kind = f"fine-tuned on {len(model.class_names)} classes" if model.heads else "pre-trained"
    return (
        f"# {model.name}\n\n"
        f"{model.spec.model.method}, size {model.spec.model.size}, {kind} with av-pipeline: "
        f"{config.depth} blocks of width {config.embed_dim}, {config.num_frames} frame(s) of "
        f"{config.img_size} pixels and {config.target_length} log-mel frames of "
        f"{config.num_mel_bins} bins at a time. Inputs: {' and '.join(model.modalities)}."
    )


def _use(model: Model) -> str:
    if model.heads:
        return USE.format(call="classify", shown="one.top(3) or one.span.reason")
    return USE.format(call="embed", shown="one.audio, one.video, one.span.reason")


def _data(state: Mapping[str, Any], started_on: Sequence[Mapping[str, Any]]) -> str:
    own = "fine-tuning" if state.get("class_names") else "pre-training"
    listed = [(own, one) for one in state.get("data") or ()]
    listed += [("pre-training", one) for one in started_on]
    rows = [
        (
            one.get("dataset", UNKNOWN),
            stage,
            one.get("split") or "",
            _count(one.get("num_clips"), one.get("num_clips_in_list")),
            one.get("licence") or UNKNOWN,
        )
        for stage, one in listed
    ]
    if not rows:
        source = state.get("converted_from", {}).get("file", "")
        return f"Not recorded{f': converted from {source}' if source else ''}."
    return _table(("data set", "stage", "split", "clips of the list", "licence"), rows)


def _count(num: int | None, listed: int | None) -> str:
    return UNKNOWN if num is None else f"{num:,} of {listed or num:,}"


def _recipe(model: Model, state: Mapping[str, Any]) -> str:
    if "converted_from" in state:
        return "Converted from published weights; their recipe is their publisher's."
    values = {**model.spec.model.recipe_values(), **model.spec.recipe.recipe_values()}
    plain = {key: value for key, value in values.items() if value not in ({}, [], "", None)}
    rows = [(key, json.dumps(value)) for key, value in sorted(plain.items())]
    rows += [
        ("steps", f"{state['step']:,}"),
        ("clips seen", f"{state['samples_seen']:,}"),
        ("precision", state.get("precision") or UNKNOWN),
        ("code", state["git_commit"]),
    ]
    return _table(("setting", "value"), rows)


def _metrics(model: Model, folder: Path) -> str:
    rows = list(_figures(model, folder))
    if not rows:
        return "None was measured with these weights."
    head = "Values with 95 % intervals over clips.\n\n"
    return head + _table(("data", "input", "metric", "value", "clips"), rows)


def _figures(model: Model, folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield every figure beside the run that was measured with these very weights."""
    for up in (folder, *folder.parents[:2]):
        for path in sorted(up.glob(paths.glob_within(paths.SCORES, "run"))):
            if metrics := _read(path, EvalMetrics):
                yield from _evaluation_rows(metrics, model.sha256)
        for path in sorted(up.glob(paths.glob_within(paths.PROBE_SCORES, "run"))):
            metrics = _read(path, ProbeMetrics)
            if metrics and metrics.checkpoint_sha256 == model.sha256:
                yield from _probe_rows(metrics)


def _read(path: Path, kind: Any) -> Any:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError):
        return None


def _evaluation_rows(metrics: EvalMetrics, sha256: str) -> Iterator[tuple[str, ...]]:
    where = f"{metrics.dataset}/{metrics.split}"
    clips = _count(metrics.num_clips, metrics.num_clips_in_list)
    if metrics.checkpoint_sha256 == sha256:
        for head in metrics.heads:
            scores = metrics.scores(head)
            for name in METRICS if scores else ():
                if figure := scores and scores.get(name):
                    yield where, head, name, _interval(figure), clips
    found = metrics.retrieval
    if found and found.checkpoint_sha256 == sha256 and found.checkpoint == "finetune":
        yield from _retrieval_rows(where, found)  # a pre-training's stand in its probe


def _probe_rows(metrics: ProbeMetrics) -> Iterator[tuple[str, ...]]:
    where = f"{metrics.dataset}/{metrics.split}"
    for modality, scores in metrics.probes.get("pretrained", {}).items():
        for name, figure in (("linear probe", scores.linear), ("k-NN", scores.knn)):
            if figure:
                yield where, modality, f"{name}, {scores.metric}", _interval(figure), ""
    if metrics.retrieval:
        yield from _retrieval_rows(where, metrics.retrieval)


def _retrieval_rows(where: str, found: Retrieval) -> Iterator[tuple[str, ...]]:
    for name in DIRECTIONS:
        for metric, figure in found.direction(name).items():
            if metric.startswith("R@"):
                clips = f"gallery of {found.gallery_size:,}"
                yield where, name, metric, _interval(figure), clips


def _interval(figure: Estimate) -> str:
    if figure.value is None:
        return UNKNOWN
    bounds = f" ({figure.low:.3f} to {figure.high:.3f})" if figure.has_bounds else ""
    return f"{figure.value:.3f}{bounds}"


def _operations(model: Model, folder: Path) -> str:
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    lines = [f"- parameters: {parameters:,}"]
    for name, count in _forward_operations(model).items():
        lines.append(f"- {name} encoder, one clip forward: {count / 1e9:.3g} GFLOPs")
    try:
        done = json.loads((folder / DONE_FILE).read_text(encoding="utf-8"))
        cost = done.get("cost") or {}
    except (OSError, ValueError):
        cost = {}
    if "flops" in cost:
        lines.append(f"- its training, counted: {cost['flops']:.3g} operations")
    return "\n".join(lines)


def _forward_operations(model: Model) -> dict[str, int]:
    """Count matrix products of each encoder over one clip, a multiplication and addition as two."""
    config, device = model.network.config, model.device
    shape = model.format.logmel_shape(config.num_mel_bins)
    sound = torch.zeros(1, *shape, device=device)
    side = config.img_size
    pictures = torch.zeros(1, model.num_frames, 3, side, side, device=device)
    counts = {}
    for name, given in (("audio", (sound, None)), ("video", (None, pictures))):
        if name in model.modalities:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model.network.embed(*given)
            counts[name] = counter.get_total_flops()
    return counts


def _limits(model: Model) -> str:
    hearing = f"It hears {model.clip_seconds:g} s at a time" + (
        f" and sees {model.num_frames} frames of them." if "video" in model.modalities else "."
    )
    return LIMITS.format(hearing=hearing)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
