"""Published state dicts to ours and back, every key accounted for.

``av-pipeline convert`` does it for a file; the command itself is in
``pipeline_src.runs.convert``, because it writes a checkpoint folder.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline_src.errors import CheckpointError
from pipeline_src.methods import find_method, split_name
from pipeline_src.methods.common.key_report import KeyReport
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.published_keys import (
    PublishedKey,
    head_classes,
    published_classes,
    published_keys,
)
from pipeline_src.methods.common.tensor_files import PARALLEL_PREFIX

NUM_LISTED = 5
IMAGE_SIGNATURE = "blocks.0.norm1.weight"


def from_published(
    source: Mapping[str, Tensor], name: str, model: AudioVisualModel, *, origin: str
) -> tuple[dict[str, Tensor], KeyReport]:
    """Translate a published state dict into one that fills ``model`` completely, in its shapes.

    Args:
        name: the model's name, e.g. "avsiam_base". origin: the file, for messages.

    Raises:
        CheckpointError: a key is missing, unknown or of another shape, or two names of one tensor
            hold different values.
    """
    table = {key.name: key for key in published_keys(name, model)}
    _refuse_misfits(source, table, name, origin)
    report = KeyReport()
    weights: dict[str, Tensor] = {}
    for key, value in source.items():
        entry = table[key]
        if entry.ours:
            weights[entry.ours] = value[:, entry.num_prefix :] if entry.num_prefix else value
            report.mapped[key] = [entry.ours]
        else:
            alias = f"second name of {entry.alias_of}"
            report.unused[key] = alias if entry.alias_of else "the published class never reads it"
    absent = [key for key in model.state_dict() if key not in weights]
    report.missing = dict.fromkeys(absent, "an extension of ours; starts at zero")
    zeros = {key: torch.zeros(model.state_dict()[key].shape) for key in absent}
    return {**weights, **zeros}, report


def _refuse_misfits(
    source: Mapping[str, Tensor], table: Mapping[str, PublishedKey], name: str, origin: str
) -> None:
    problems = [f"missing {key}" for key, e in table.items() if e.ours and key not in source]
    problems += [f"unexpected {key}" for key in source if key not in table]
    for key in (key for key in source if key in table):
        entry, shape = table[key], tuple(source[key].shape)
        if shape != entry.shape:
            problems.append(f"{key} has shape {shape}, {name} has {entry.shape}")
        elif entry.alias_of in source and not torch.equal(source[key], source[entry.alias_of]):
            problems.append(f"{key} differs from {entry.alias_of}, which names the same tensor")
    if problems:
        listed = "; ".join(problems[:NUM_LISTED])
        raise CheckpointError(
            f"{origin}: {len(problems)} of its keys do not fit {name}: {listed}. "
            f"It looks like {describe_source(source)}; name that --model, or --set what differs"
        )


def describe_source(source: Mapping[str, Tensor]) -> str:
    """Say in words what a state dict seems to hold."""
    # A later method may extend an earlier one, whose keys it then has too.
    known = {one.signature: one.title for one in reversed(published_classes())}
    for key, title in {**known, IMAGE_SIGNATURE: "an image ViT (--from image)"}.items():
        if key in source:
            stage = "fine-tuned" if head_classes(source) else "pre-trained"
            return f"{title} of width {source[key].shape[-1]}, {stage}"
    return "no network that is known here"


def published_overrides(method: str, source: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the constructor arguments that a published file shows."""
    published = find_method(method).load_published()
    return published.shown_overrides(source) if published else {}


def to_published(
    weights: Mapping[str, Tensor], name: str, model: AudioVisualModel
) -> tuple[dict[str, Tensor], KeyReport]:
    """Translate our weights into a state dict that the published class loads strictly.

    What that class never reads is filled with zeros, its norms with ones; keys get ``module.``.
    The shapes are those of the published class.

    Raises:
        ConfigError: the method has no released weights, or none of this structure.
    """
    table = published_keys(name, model)
    report = KeyReport()
    target: dict[str, Tensor] = {}
    for key in table:
        if key.ours:
            value = weights[key.ours]
            filler = value.new_zeros(value.shape[0], key.num_prefix, *value.shape[2:])
            target[key.name] = torch.cat([filler, value], dim=1) if key.num_prefix else value
            report.mapped.setdefault(key.ours, []).append(key.name)
        elif key.alias_of:
            target[key.name] = target[key.alias_of]
        else:
            is_norm = len(key.shape) == 1 and key.name.endswith("weight")
            target[key.name] = torch.ones(key.shape) if is_norm else torch.zeros(key.shape)
            report.missing[key.name] = "filled: the published class never reads it"
    report.unused = {key: "an extension of ours" for key in weights if key not in report.mapped}
    return {PARALLEL_PREFIX + key: value for key, value in target.items()}, report


def to_image(
    weights: Mapping[str, Tensor], name: str, model: AudioVisualModel
) -> tuple[dict[str, Tensor], KeyReport]:
    """Translate the video encoder into a timm ViT without class token, average-pooled.

    timm builds it by ``class_token=False, global_pool="avg", fc_norm=False``; its LayerNorms have
    eps 1e-6, those of the blocks here 1e-5. The shapes are those of that ViT.

    Raises:
        CheckpointError: the network's video encoder has no such form.
    """
    method = split_name(name)[0]
    image_weights = find_method(method).load_image_weights()
    if image_weights is None or image_weights.video_name is None or image_weights.fold is None:
        raise CheckpointError(f"{name}: the video encoder of {method} has no image form")
    if model.config.num_frames > 1:
        raise CheckpointError(
            f"{name} sees num_frames={model.config.num_frames} frames as one sequence; an image "
            "network sees one, as one does that was trained with num_frames: 1"
        )
    found = {key: image_weights.video_name(key, model) for key in model.state_dict()}
    names = {key: name for key, name in found.items() if name}
    report = KeyReport(mapped={ours: [theirs] for ours, theirs in names.items()})
    report.unused = {key: "not part of the video encoder" for key in weights if key not in names}
    image = {theirs: weights[ours] for ours, theirs in names.items()}
    return image_weights.fold(image, weights, model), report
