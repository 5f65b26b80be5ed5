"""Check a merged configuration; say of each wrong value where it stands and what is allowed."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline_src.architectures import make_architecture
from pipeline_src.config.root import NAME_PATTERN, RUN_SECTIONS, Config, RunConfig
from pipeline_src.config.section import Section
from pipeline_src.errors import ConfigError

SectionT = TypeVar("SectionT", bound=Section)


def load_config(merged: Mapping[str, Any], files: Sequence[Path] = ()) -> Config:
    """Turn Snakemake's merged config into the typed tree, every run included.

    Args:
        merged: config.yaml, overlays and --config as Snakemake merged them. files: the
            configuration files, first read first; errors name the last one that sets the key.
    Raises:
        ConfigError: unknown key, wrong type, value out of bounds, bad run name; lists every
            problem.
    """
    config = _validate(Config, merged, (), files)
    for name in config.run_names:
        if not re.match(NAME_PATTERN, name):
            raise ConfigError(
                f"runs.{name}: a run name is letters, digits and _, starting with a letter"
            )
        resolve_run(config, name, files)
    return config


def read_config(files: Sequence[Path]) -> Config:
    """The default configuration with overlays on top, first file first.

    Raises:
        ConfigError: a file cannot be read, or a value is not allowed.
    """
    merged: dict[str, Any] = Config().model_dump(mode="json")
    for path in files:
        try:
            overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
        merged = merge(merged, overlay or {})
    return load_config(merged, files)


def resolve_run(config: Config, name: str, files: Sequence[Path] = ()) -> RunConfig:
    """Return the sections of run ``name``: the top-level ones with the run's own values on top."""
    overlay = config.runs.get(name)
    if overlay is None:
        raise ConfigError(f"run {name!r} is not listed; listed runs: {', '.join(config.run_names)}")
    base = {section: getattr(config, section).model_dump(mode="json") for section in RUN_SECTIONS}
    run = _validate(RunConfig, merge(base, overlay), ("runs", name), files)
    source = run.finetune.checkpoint_run
    if source and config.runs.get(source) is None:
        raise ConfigError(f"runs.{name}.finetune.checkpoint_run = {source!r} is not a listed run")
    mixup = run.finetune.mixup
    if mixup and not config.shards.waveform and not run.finetune.checkpoint:
        raise ConfigError(
            f"run {name}: finetune.mixup = {mixup:g} mixes waveforms; set shards.waveform: true"
        )
    _check_network(name, run, config.audio.num_mel_bins)
    return run


def _check_network(name: str, run: RunConfig, num_mel_bins: int) -> None:
    """Refuse a network that could not be built, before anything runs.

    Raises:
        ConfigError: an override is unknown, set elsewhere, or does not fit the inputs.
    """
    model = run.model
    given = {
        "num_mel_bins": num_mel_bins,
        "target_length": model.target_length,
        "img_size": model.img_size,
        "num_frames": run.finetune.num_frames,
    }
    if twice := {*given, "num_classes", "init"} & set(model.overrides):
        raise ConfigError(
            f"run {name}: model.overrides.{min(twice)} has a key of its own in the configuration; "
            "set it there"
        )
    try:
        make_architecture(model.name, **given, **model.overrides)
    except ConfigError as error:
        raise ConfigError(f"run {name}: model.overrides: {error}") from None


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two trees of mappings; leaves and lists of ``overlay`` win."""
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged


def _validate(
    section: type[SectionT],
    values: Mapping[str, Any],
    prefix: tuple[str, ...],
    files: Sequence[Path],
) -> SectionT:
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        problems = [_describe(section, problem, prefix, files) for problem in error.errors()]
        raise ConfigError("configuration refused:\n  " + "\n  ".join(problems)) from None


def _describe(
    section: type[Section], problem: ErrorDetails, prefix: tuple[str, ...], files: Sequence[Path]
) -> str:
    location = tuple(str(part) for part in problem["loc"])
    path = prefix + location
    if problem["type"] == "extra_forbidden":
        allowed = ", ".join(_section_at(section, location[:-1]).model_fields)
        message = f"unknown key; allowed here: {allowed}"
    else:
        message = problem["msg"].removeprefix("Value error, ")
    value = "" if isinstance(problem["input"], Mapping) else f" = {problem['input']!r}"
    return f"{_file_of(path, files)}: {'.'.join(path) or 'configuration'}{value}: {message}"


def _section_at(section: type[Section], location: Sequence[str]) -> type[Section]:
    for part in location:
        annotation = section.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            break
        section = annotation
    return section


def _file_of(path: Sequence[str], files: Sequence[Path]) -> str:
    """The last file that sets the key at ``path``, or the command line."""
    for file in reversed(files):
        node: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        for part in path:
            node = node.get(part) if isinstance(node, Mapping) else _below_leaf(node, part)
            if node is None:
                break
        else:
            return str(file)
    return "--config"


def _below_leaf(node: Any, part: str) -> Any:
    """Follow a list index; anything below a leaf counts as set with the leaf itself."""
    if isinstance(node, list) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    return node
