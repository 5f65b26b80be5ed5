"""Checkpoints that were made before 0.2 learn how their media were prepared.

Where it can be had from, in this order: the configuration files that are named; the index.json of
the shards that it learnt from; the configuration that its evaluations have kept. What is known
already has to agree.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline_src.catalog import paths
from pipeline_src.config.data import MediaConfig
from pipeline_src.config.load import load_config, read_config
from pipeline_src.config.root import Config
from pipeline_src.datasets.dataset import dataset_file, load_dataset
from pipeline_src.errors import CheckpointError, ConfigError, PipelineError
from pipeline_src.evaluate.records import Scored, read_record
from pipeline_src.inference.locate import CONFIG_FILE, locate, training_folder
from pipeline_src.runs.build import trained_network_config
from pipeline_src.runs.checkpoint import MODEL_FILE, Checkpoint
from pipeline_src.runs.preparation import describe_data, published_preparation, read_preparation
from pipeline_src.runs.spec import STATE_FILE
from pipeline_src.system.atomic import write_json


def complete(
    folder: Path, config_files: Sequence[Path] = (), dataset_files: Sequence[Path] = ()
) -> str:
    """Write into a checkpoint's state.json what its use needs; say what was done.

    Args:
        config_files: configuration that it was trained with, on top of the project's own.
        dataset_files: YAML of its data sets, for their licences.
    Raises:
        CheckpointError: nothing tells how its media were prepared, or that contradicts its state.
    """
    checkpoint = locate(folder)
    if (checkpoint.folder / CONFIG_FILE).is_file():
        return f"{checkpoint.folder}: an export, which is complete"
    state = checkpoint.state
    if state.get("media") and state.get("front_end") and not config_files and not dataset_files:
        return f"{checkpoint.folder}: complete"
    published = {} if config_files else _published(checkpoint)
    found = published or _trained(checkpoint, config_files)
    data = _with_licences(found.get("data") or state.get("data") or [], dataset_files)
    new = {**state, **found, "data": data}
    read_preparation(new, checkpoint.folder)
    write_json(checkpoint.folder / STATE_FILE, new)
    return f"{checkpoint.folder / STATE_FILE}: media and data added"


def _published(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the preparation of converted weights; nothing for others."""
    if "converted_from" not in checkpoint.state:
        return {}
    trained_on = checkpoint.state.get("trained_on") or []
    return {**published_preparation(trained_network_config(checkpoint)), "data": trained_on}


def _trained(checkpoint: Checkpoint, config_files: Sequence[Path]) -> dict[str, Any]:
    spec = checkpoint.spec
    indexes = [path for path in spec.train_indexes if path.is_file()]
    described = describe_data(indexes) if indexes else {}
    data = described.get("data") or checkpoint.state.get("trained_on") or []
    if config_files:
        media, where = read_config(config_files).media, ", ".join(map(str, config_files))
    elif media := described.get("media"):
        return {"media": media, "data": data}
    else:
        config, where = _kept_config(checkpoint)
        media, data = config.media, _with_licences(data, map(dataset_file, config.datasets))
    if "video" not in checkpoint.state.get("modalities", ["video"]):
        media = media.without_frames()
    _check_agrees(checkpoint, media, indexes, where)
    return {"media": media.recipe_values(), "data": data}


def _kept_config(checkpoint: Checkpoint) -> tuple[Config, Path]:
    """Return the configuration that an evaluation of the checkpoint, or of its run, has kept.

    Raises:
        CheckpointError: none has kept one.
    """
    for path, kept in _evaluations(checkpoint):
        with suppress(PipelineError):
            if kept.config:
                return load_config(kept.config), path
    raise CheckpointError(
        f"{checkpoint.folder}: nothing beside it says how its media were prepared; name the "
        f"configuration that it was trained with: `av-pipeline complete {checkpoint.folder} "
        "--configfile FILE`"
    )


def _evaluations(checkpoint: Checkpoint) -> list[tuple[Path, Scored]]:
    """Read metrics.json of the run, as far as readable: first those of this very checkpoint."""
    folder = training_folder(checkpoint)
    trainings = (paths.PRETRAIN_FOLDER, paths.FINETUNE_FOLDER)
    above = (up for up in folder.parents if any((up / name).is_dir() for name in trainings))
    run = next(above, folder)
    found = []
    for pattern in (paths.SCORES, paths.PROBE_SCORES):
        for path in sorted(run.glob(paths.glob_within(pattern, "run"))):
            with suppress(PipelineError):
                found.append((path, read_record(path, Scored, "its evaluation")))
    own = checkpoint.state["sha256"][MODEL_FILE]
    return sorted(found, key=lambda one: one[1].checkpoint_sha256 != own)


def _check_agrees(
    checkpoint: Checkpoint, media: MediaConfig, indexes: Sequence[Path], where: object
) -> None:
    """Refuse settings that cannot be those of the training.

    Raises:
        CheckpointError: names the key and both values.
    """
    known = {"sample_rate_hz": checkpoint.state.get("front_end", {}).get("sample_rate_hz")}
    for path in indexes:
        index = json.loads(path.read_text(encoding="utf-8"))
        known |= {
            key: index[key] for key in ("frame_size", "num_frames", "frame_rate") if key in index
        }
    for key, value in known.items():
        if value is not None and getattr(media, key) != value:
            raise CheckpointError(
                f"{checkpoint.folder}: was trained with media.{key} = {value}, {where} says "
                f"{getattr(media, key)}; name the configuration of the training with --configfile"
            )


def _with_licences(
    data: Sequence[Mapping[str, Any]], dataset_files: Iterable[Path]
) -> list[dict[str, Any]]:
    licences = {}
    for path in dataset_files:
        try:
            dataset = load_dataset(path)
        except ConfigError:
            continue
        licences[dataset.name] = dataset.licence
    return [
        {**one, "licence": one.get("licence") or licences.get(str(one.get("dataset")), "")}
        for one in data
    ]
