"""Published weights to a checkpoint folder and back."""

import argparse
import importlib
import json
import shlex
import sys
from collections import Counter
from pathlib import Path

import torch

from pipeline_src.config.section import MAX_SEED
from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.methods import MODEL_NAMES, make_network_config, split_name
from pipeline_src.methods.common.convert import (
    from_published,
    published_overrides,
    to_image,
    to_published,
)
from pipeline_src.methods.common.image_start import load_image_weights
from pipeline_src.methods.common.key_report import KeyReport
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.published_keys import head_classes
from pipeline_src.methods.common.tensor_files import read_tensors
from pipeline_src.methods.factory import create_model
from pipeline_src.runs.build import restore_model, trained_network_config
from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.runs.imported import (
    Origin,
    parse_overrides,
    read_classes,
    refuse_existing,
    write_imported,
)
from pipeline_src.system.atomic import atomic_path, file_sha256, write_json

# What AVSiam and CAV-MAE normalise the log-mel with, on AudioSet and VGGSound alike.
LOGMEL_MEAN, LOGMEL_STD = -5.081, 4.4849


def import_weights(options: argparse.Namespace) -> KeyReport:
    """Convert a file of published or image weights into a checkpoint folder.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the model.
        ConfigError: an option is missing or wrong.
    """
    if not options.model:
        raise ConfigError(f"--model is missing: name one of {', '.join(MODEL_NAMES)}")
    refuse_existing(options.target)
    load = _load_image if options.origin == "image" else _load_published
    model, overrides, report = load(options)
    write_imported(
        options.target,
        model,
        report,
        name=options.model,
        overrides=overrides,
        classes=read_classes(options.dataset),
        origin=Origin(
            options.source,
            file_sha256(options.source),
            options.logmel_mean,
            options.logmel_std,
            options.trained_on and tuple(options.trained_on),
        ),
    )
    return report


def _load_published(options: argparse.Namespace) -> tuple[AudioVisualModel, dict, KeyReport]:
    source = read_tensors(options.source)
    classes = read_classes(options.dataset)
    _check_head(options.source, head_classes(source), len(classes.names))
    method = split_name(options.model)[0]
    overrides = {
        "variant": options.variant,
        **published_overrides(method, source),
        **parse_overrides(options.set),
    }
    with torch.device("meta"):
        model = create_model(options.model, num_classes=len(classes.names), **overrides)
    weights, report = from_published(source, options.model, model, origin=str(options.source))
    model.load_state_dict(weights, assign=True)
    return model, overrides, report


def _check_head(path: Path, num_outputs: int, num_classes: int) -> None:
    if num_outputs and not num_classes:
        raise ConfigError(
            f"{path} is fine-tuned on {num_outputs} classes; name their data set with --dataset"
        )
    if num_outputs != num_classes:
        raise CheckpointError(
            f"{path} has {num_outputs or 'no'} classes, the data set {num_classes}; name the data "
            "set that it was fine-tuned on" + ("" if num_outputs else ", or leave out --dataset")
        )


def _load_image(options: argparse.Namespace) -> tuple[AudioVisualModel, dict, KeyReport]:
    overrides = {"variant": options.variant, **parse_overrides(options.set)}
    if not 0 <= options.seed <= MAX_SEED:
        raise ConfigError(f"--seed {options.seed}: allowed are 0 to {MAX_SEED}")
    torch.manual_seed(options.seed)
    model = create_model(options.model, **overrides)
    method, size = split_name(options.model)
    report = load_image_weights(
        model, str(options.source), method=method, size=size, allow=options.allow
    )
    return model, overrides, report


def export_weights(options: argparse.Namespace, checkpoint: Checkpoint) -> KeyReport:
    """Convert a checkpoint into a file that the published class loads strictly.

    Raises:
        CheckpointError: its network has no such form.
    """
    model, spec = restore_model(checkpoint)
    translate = to_image if options.origin == "image" else to_published
    state, report = translate(model.state_dict(), spec.model.name, model)
    with atomic_path(options.target) as temporary:
        torch.save(state, temporary)
    write_json(options.target.with_suffix(".json"), report.as_dict())
    return report


def describe_report(options: argparse.Namespace, report: KeyReport) -> str:
    """Describe what was done with the keys, and where the result is."""
    lines = [f"{len(report.mapped)} keys mapped"]
    lines += [
        f"{kind}: {count} x {reason}"
        for kind, keys in (("unused", report.unused), ("missing", report.missing))
        for reason, count in Counter(keys.values()).items()
    ]
    return "\n".join([*lines, f"written: {options.target}"])


def describe_way_back(options: argparse.Namespace, checkpoint: Checkpoint) -> str:
    """Return the command that makes the same network of a published file that was written.

    The file holds tensors alone, which do not say what else the network was built with. How sound
    and pictures were prepared is then taken for that of the published weights.
    """
    name, config = checkpoint.spec.model.name, trained_network_config(checkpoint)
    variants = type(config).variants
    variant = options.variant if options.variant in variants else next(iter(variants))
    plain = make_network_config(name, variant=variant, num_classes=config.num_classes)
    chosen = config.model_dump(mode="json")
    differing = {key: chosen[key] for key in chosen if getattr(config, key) != getattr(plain, key)}
    settings = [f"{key}={json.dumps(value)}" for key, value in differing.items()]
    command = ["av-pipeline", "convert", str(options.target), "FOLDER", "--model", name]
    command += ["--variant", variant, *(word for one in settings for word in ("--set", one))]
    command += [f"--logmel-{key}={checkpoint.state[f'logmel_{key}']!r}" for key in ("mean", "std")]
    command += ["--dataset", "YAML"] if config.num_classes else []
    return f"back again: {shlex.join(command)}"


def main() -> None:
    """Run ``av-pipeline convert`` with this process's arguments; for scripts written for 0.1."""
    commands = importlib.import_module("pipeline_src.commands.cli")
    if status := commands.main(["convert", *sys.argv[1:]]):
        sys.exit(status)
