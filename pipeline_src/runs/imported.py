"""Weights from elsewhere as a finished training: a checkpoint folder and the done.json beside it.

``pretrain.checkpoint`` and ``finetune.checkpoint`` of a run name such a folder; nothing is trained.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_src.config import FinetuneConfig, ModelConfig, PretrainConfig
from pipeline_src.config.yaml_files import parse_yaml
from pipeline_src.datasets.clip_lists import classes_of
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.methods import NetworkConfig, split_name
from pipeline_src.methods.common.key_report import KeyReport
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.modalities import LabelKind
from pipeline_src.runs.checkpoint import read_checkpoint, save_checkpoint
from pipeline_src.runs.done import write_done
from pipeline_src.runs.preparation import published_preparation
from pipeline_src.runs.provenance import git_commit, package_versions
from pipeline_src.runs.spec import CHECKPOINTS_FOLDER, DONE_FILE, TrainSpec
from pipeline_src.system.atomic import json_sha256, write_json

REPORT_FILE = "conversion.json"
INPUT_KEYS = ("img_size", "target_length", "num_mel_bins", "num_frames")


@dataclass(frozen=True)
class Classes:
    """What a fine-tuned network's outputs mean; no names for a pre-trained one."""

    names: tuple[str, ...] = ()
    task: LabelKind = "multiclass"


@dataclass(frozen=True)
class Origin:
    """Where weights come from, and the normalisation of the log-mel that they were trained with.

    Args:
        trained_on: YAML files of the data sets that they learnt from; None = not known.
    """

    path: Path
    sha256: str
    logmel_mean: float
    logmel_std: float
    trained_on: tuple[Path, ...] | None = None


def read_classes(dataset_path: Path | None) -> Classes:
    """Return classes and task of a data set's YAML; none without a path."""
    if dataset_path is None:
        return Classes()
    dataset = load_dataset(dataset_path)
    return Classes(classes_of(dataset).names, dataset.task)


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """Read ``key=value`` texts, values as YAML.

    Raises:
        ConfigError: a text has another form, or its value is no YAML.
    """
    values: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r}: expected key=value, e.g. --set decoder_depth=6")
        values[key] = parse_yaml(value, f"--set {key}")
    return values


def refuse_existing(folder: Path) -> None:
    """Refuse a folder that already holds a finished training.

    Raises:
        CheckpointError: it does.
    """
    if (folder / DONE_FILE).exists():
        raise CheckpointError(f"{folder} already holds a checkpoint; delete it or name another")


def write_imported(
    folder: Path,
    model: AudioVisualModel,
    report: KeyReport,
    *,
    name: str,
    overrides: dict[str, Any],
    classes: Classes,
    origin: Origin,
) -> Path:
    """Write ``folder`` and return its done.json.

    Args:
        name: e.g. "avsiam_base". overrides: what ``create_model`` was given beside the name.
    """
    spec = _spec(folder, model.config, name, overrides)
    source = {"file": origin.path.name, "sha256": origin.sha256}
    state = {
        "step": 0,
        "num_steps": 0,
        "samples_seen": 0,
        "seconds": 0.0,
        "fingerprint": json_sha256({"source": source, "spec": spec.model_dump(mode="json")}),
        "config_sha256": spec.config_sha256(),
        "data_sha256": spec.data_sha256(),
        "trained_on": _name_datasets(origin.trained_on),
        "seed": spec.recipe.seed,
        "spec": spec.model_dump(mode="json"),
        "converted_from": source,
        "class_names": list(classes.names),
        "task": classes.task,
        "num_mel_bins": model.config.num_mel_bins,
        "logmel_mean": origin.logmel_mean,
        "logmel_std": origin.logmel_std,
        **published_preparation(model.config),
        "data": _describe_datasets(origin.trained_on),
        "git_commit": git_commit(),
        "versions": package_versions(),
    }
    written = save_checkpoint(folder / CHECKPOINTS_FOLDER, model, {}, state, keep=1)
    write_json(folder / REPORT_FILE, {"source": source, "model": name, **report.as_dict()})
    return write_done(folder, read_checkpoint(written), {}, None)


def _name_datasets(paths: tuple[Path, ...] | None) -> list[dict[str, str]] | None:
    if paths is None:
        return None
    datasets = [load_dataset(path) for path in paths]
    return [{"dataset": one.name, "collection": one.collection} for one in datasets]


def _describe_datasets(paths: tuple[Path, ...] | None) -> list[dict[str, str]]:
    datasets = [load_dataset(path) for path in paths or ()]
    return [
        {"dataset": one.name, "collection": one.collection, "licence": one.licence}
        for one in datasets
    ]


def _spec(folder: Path, config: NetworkConfig, name: str, overrides: dict[str, Any]) -> TrainSpec:
    method, size = split_name(name)
    recipe = FinetuneConfig if config.num_classes else PretrainConfig
    return TrainSpec(
        stage="finetune" if config.num_classes else "pretrain",
        run_dir=folder,
        model=ModelConfig(
            method=method,  # type: ignore[arg-type]
            size=size,  # type: ignore[arg-type]
            img_size=config.img_size,
            target_length=config.target_length,
            overrides={key: value for key, value in overrides.items() if key not in INPUT_KEYS},
        ),
        recipe=recipe(num_frames=config.num_frames),
    )
