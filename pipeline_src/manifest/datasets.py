"""The YAML file that describes a data set, and its class list.

With the clip list it is all that a new data set needs; paths in it are relative to the YAML file.
"""

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from pipeline_src.config.root import NAME_PATTERN
from pipeline_src.config.section import Section
from pipeline_src.errors import ConfigError, ManifestError

SPLITS = ("train", "val", "test")
ID_COLUMNS = ("id", "mid")

OFFICIAL_LISTS = {
    "clips": "it lists your own clips: clip_id,source,start_seconds,end_seconds,labels,split",
    "audioset": "Google publishes it on the AudioSet download page as balanced_train_segments.csv, "
    "unbalanced_train_segments.csv, eval_segments.csv and class_labels_indices.csv",
    "vggsound": "the Visual Geometry Group (Oxford) publishes vggsound.csv on the VGGSound page; "
    "class lists with the columns index,mid,display_name come with the CAV-MAE code",
}


class DatasetConfig(Section):
    """One data set: what its clips are, how they are labelled, where they lie."""

    name: str = Field(
        pattern=NAME_PATTERN, description="folder under results and part of target names"
    )
    task: Literal["multiclass", "multilabel"] = Field(description="one label per clip, or several")
    format: Literal["clips", "audioset", "vggsound"] = Field(
        default="clips", description="form of the clip list"
    )
    clip_list: Path | dict[Literal["train", "val", "test"], Path] = Field(
        description="CSV or CSV.GZ; for audioset one per split"
    )
    class_names: Path = Field(description="CSV: index,id,display_name")
    root: Path = Field(default=Path(), description="folder that local sources start from")
    clip_file: str = Field(
        default="",
        description="ready-cut clip below root with {clip_id} in its name; where it exists it is "
        "taken whole, before the list's source",
    )
    mirror: str = Field(
        default="",
        description="http(s) URL with {clip_id} in it, or of an archive and its member "
        "(https://host/a.tar::{clip_id}.mp4); asked before the list's source",
    )
    mirror_is_cut: bool = Field(
        default=True,
        description="the mirror's files are ready-cut clips, taken whole; false: they are cut as "
        "the list's sources are",
    )
    retrieval_per_class: int = Field(
        default=0,
        ge=0,
        description="published retrieval gallery: the first n clips of each class; 0 = every clip",
    )
    licence: str = Field(default="", description="terms of the clips, for the report")

    @field_validator("clip_list", "class_names", "root")
    @classmethod
    def _resolve(cls, value: Any, info: ValidationInfo) -> Any:
        folder = (info.context or {}).get("folder", Path())
        if isinstance(value, dict):
            return {split: folder / path for split, path in value.items()}
        return folder / value

    @field_validator("clip_file")
    @classmethod
    def _check_clip_file(cls, value: str) -> str:
        path = PurePosixPath(value)
        if value and ("{clip_id}" not in value or path.is_absolute() or ".." in path.parts):
            raise ValueError("a file name below root with {clip_id} in it, e.g. {clip_id}.mp4")
        return value

    @field_validator("mirror")
    @classmethod
    def _check_mirror(cls, value: str) -> str:
        address = urlsplit(value)
        is_url = address.scheme in ("http", "https") and address.hostname
        if value and ("{clip_id}" not in value or not is_url):
            raise ValueError("an http(s) URL with {clip_id} in it, e.g. https://host/{clip_id}.mp4")
        if "@" in address.netloc:
            raise ValueError("no user or password here: ~/.netrc, PIPELINE_COOKIES or a proxy")
        return value

    @model_validator(mode="after")
    def _check_lists(self) -> "DatasetConfig":
        is_mapping = isinstance(self.clip_list, dict)
        if (self.format == "audioset") != is_mapping or self.clip_list == {}:
            raise ValueError(
                f"clip_list: format {self.format} needs "
                + (
                    "a path per split (train: ..., test: ...)"
                    if self.format == "audioset"
                    else "one path"
                )
            )
        return self

    @property
    def clip_lists(self) -> dict[str, Path]:
        """Clip list files by split; the key is empty where the file itself names the split."""
        if isinstance(self.clip_list, dict):
            return {split: self.clip_list[split] for split in SPLITS if split in self.clip_list}
        return {"": self.clip_list}


@dataclass(frozen=True)
class ClassList:
    """Classes in index order, and the index of every id and display name."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    index: dict[str, int]


def load_dataset(path: Path) -> DatasetConfig:
    """Read and check a data set's YAML.

    Raises:
        ConfigError: the file is missing or no YAML; a key is unknown, missing or has a wrong value.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: data set description not readable: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys such as name, task, clip_list; got {values!r}")
    relative = {"root": ".", **values}
    try:
        return DatasetConfig.model_validate(relative, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigError(f"{path}: {_describe(error)}") from error


def _describe(error: ValidationError) -> str:
    """Name each wrong key with its value and what is allowed."""
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing":
            problems.append(f"{key}: missing")
        elif problem["type"] == "extra_forbidden":
            allowed = ", ".join(DatasetConfig.model_fields)
            problems.append(f"{key}: unknown key (allowed: {allowed})")
        elif not key:
            problems.append(problem["msg"])
        else:
            problems.append(f"{key}: {problem['input']!r}: {problem['msg']}")
    return "; ".join(problems)


def load_classes(dataset: DatasetConfig) -> ClassList:
    """Read the class list: columns index, id (or mid), display_name; indices 0, 1, 2, ... in order.

    Raises:
        ManifestError: missing file or column, a gap in the indices, a name that means two classes.
    """
    path = dataset.class_names
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return _parse_classes(path, csv.DictReader(stream, skipinitialspace=True))
    except FileNotFoundError:
        raise ManifestError(missing_list(dataset, path)) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not a CSV file in UTF-8: {error}") from error


def missing_list(dataset: DatasetConfig, path: Path) -> str:
    """Say which list of a data set is missing and where it comes from."""
    return (
        f"{path}: no such file; data set {dataset.name} needs it: {OFFICIAL_LISTS[dataset.format]}"
    )


def _parse_classes(path: Path, reader: "csv.DictReader[str]") -> ClassList:
    columns = reader.fieldnames or ()
    id_column = next((name for name in ID_COLUMNS if name in columns), "id")
    for column in ("index", id_column, "display_name"):
        if column not in columns:
            raise ManifestError(f"{path}:1: column {column!r} is missing; found {list(columns)}")
    ids: list[str] = []
    names: list[str] = []
    index: dict[str, int] = {}
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if row["index"] != str(len(ids)):
            raise ManifestError(f"{where}: index {row['index']!r}, expected {len(ids)}")
        for text in (row[id_column], row["display_name"]):
            if not text or index.setdefault(text, len(ids)) != len(ids):
                raise ManifestError(
                    f"{where}: {text!r} is empty or already means class {index.get(text)}"
                )
        ids.append(row[id_column])
        names.append(row["display_name"])
    if len(ids) < 2:
        raise ManifestError(f"{path}: {len(ids)} classes; at least 2 are needed")
    return ClassList(tuple(ids), tuple(names), index)
