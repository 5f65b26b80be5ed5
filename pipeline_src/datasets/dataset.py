"""The YAML file that describes a data set.

With the clip list it is all that a new data set needs; paths in it are relative to the YAML file.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from pipeline_src.config.root import MAX_NAME_CHARS, NAME_PATTERN
from pipeline_src.config.section import Section
from pipeline_src.config.yaml_files import read_yaml
from pipeline_src.datasets.sources import source_problem
from pipeline_src.errors import ConfigError, did_you_mean, shown
from pipeline_src.modalities import LabelKind, Modality
from pipeline_src.system.url_secrets import hide_secrets

SPLITS = ("train", "val", "test")
FOLD_PREFIX = "fold"
# A view of a data set with folds, e.g. esc50_fold3: that fold is held out.
FOLD_NAME = re.compile(r"(?P<dataset>\w+)_(?P<split>fold[1-9]\d*)")
MAX_FOLDS = 99

OFFICIAL_LISTS = {
    "clips": "it lists your own clips: clip_id,source,start_seconds,end_seconds,labels,split",
    "audioset": "Google publishes it on the AudioSet download page as balanced_train_segments.csv, "
    "unbalanced_train_segments.csv, eval_segments.csv and class_labels_indices.csv",
    "vggsound": "the Visual Geometry Group (Oxford) publishes vggsound.csv on the VGGSound page; "
    "class lists with the columns index,mid,display_name come with the CAV-MAE code",
    "esc50": "it is meta/esc50.csv of the ESC-50 archive; unpack it where the data set's root is",
    "shards": "index_urls name the index.json of shards that are packed already",
    "speech_commands": "validation_list.txt and testing_list.txt are in the archive "
    "speech_commands_v0.02; unpack it where the data set's root is",
}
LISTS_PER_SPLIT = {
    "audioset": "a path per split (train: ..., test: ...)",
    "speech_commands": "the two official lists (val: ..., test: ...); the rest is train",
}
FORMATS_WITH_FOLDS = ("clips", "esc50")


class OfficialFile(Section):
    """A list or an archive that its publisher offers for download.

    What is not known of it is left out, never guessed: then it is pinned when it is fetched first.
    """

    url: str = Field(pattern=r"^https?://[^\s@]+$", description="where it is published")
    path: Path = Field(description="where it goes, relative to the YAML file")
    max_bytes: int = Field(gt=0, description="a larger answer is refused")
    sha256: str = Field(
        default="", pattern=r"^([0-9a-f]{64})?$", description="of the file; empty = unknown"
    )
    unpack: bool = Field(
        default=False, description="a .zip or .tar.gz, of which the data set's root is made"
    )
    folder: str = Field(
        default="", description="the archive's folder that becomes root; empty = all of it"
    )

    @field_validator("path")
    @classmethod
    def _resolve(cls, value: Path, info: ValidationInfo) -> Path:
        return (info.context or {}).get("folder", Path()) / value


class DatasetConfig(Section):
    """One data set: what its clips are, how they are labelled, where they lie."""

    name: str = Field(
        pattern=NAME_PATTERN,
        max_length=MAX_NAME_CHARS,
        description="folder under results and part of target names",
    )
    task: LabelKind = Field(description="one label per clip, or several")
    format: Literal["clips", "audioset", "vggsound", "esc50", "speech_commands", "shards"] = Field(
        default="clips", description="form of the clip list; shards = none, see index_urls"
    )
    modalities: tuple[Modality, ...] = Field(
        default=("audio", "video"),
        description="what every clip has; [audio] = sound alone, video is not looked for",
    )
    folds: int = Field(
        default=0,
        ge=0,
        le=MAX_FOLDS,
        description="cross-validation: the splits are fold1 .. fold<folds>, each is held out once; "
        "0 = train, val, test",
    )
    clip_list: Path | dict[Literal["train", "val", "test"], Path | tuple[Path, ...]] = Field(
        default=Path(),
        description="CSV or CSV.GZ; for audioset one or several per split, for speech_commands the "
        "official lists of val and test",
    )
    class_names: Path = Field(
        default=Path(),
        description="CSV: index,id,display_name; left out, for format clips: the list's labels, "
        "sorted",
    )
    index_urls: dict[str, str] = Field(
        default={},
        description="format shards: URL (http, https, s3, ...) or path of the index.json of each "
        "split; the shards beside it are read where they lie",
    )
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
    retrieval_size: int = Field(
        default=0,
        ge=0,
        description="gallery of a published size: the n clips whose ids have the lowest sha256; "
        "0 = no limit",
    )
    retrieval_clips: Path | None = Field(
        default=None, description="published retrieval gallery: a text file, one clip_id per line"
    )
    licence: str = Field(default="", description="terms of the clips, for the report")
    official: tuple[OfficialFile, ...] = Field(
        default=(), description="published files that a run fetches where they are missing"
    )
    classes_from_list: bool = Field(
        default=False,
        description="where class_names is missing it is written once: the list's labels, sorted",
    )

    @field_validator("clip_list", "class_names", "root", "retrieval_clips")
    @classmethod
    def _resolve(cls, value: Any, info: ValidationInfo) -> Any:
        folder = (info.context or {}).get("folder", Path())
        if isinstance(value, dict):
            return {split: cls._resolve(paths, info) for split, paths in value.items()}
        if isinstance(value, tuple):
            return tuple(folder / path for path in value)
        return None if value is None else folder / value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if FOLD_NAME.fullmatch(value):
            raise ValueError("a name that ends in _fold and a number stands for a fold; rename it")
        return value

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
        if "@" in address.netloc or hide_secrets(value) != value:
            raise ValueError("no user, password or token here: ~/.netrc, PIPELINE_COOKIES, a proxy")
        if problem := source_problem(value.replace("{clip_id}", "x")):
            raise ValueError(problem)
        return value

    @field_validator("index_urls")
    @classmethod
    def _check_urls(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        folder = (info.context or {}).get("folder", Path())
        for split, url in value.items():
            address = urlsplit(url)
            if split not in SPLITS:
                raise ValueError(f"{split!r} is no split; known: {', '.join(SPLITS)}")
            if PurePosixPath(address.path).suffix != ".json":
                raise ValueError(f"{split}: {url!r} is not the address of an index.json")
            if "@" in address.netloc:
                raise ValueError(f"{split}: no user or password here, but in ~/.netrc")
        return {k: v if urlsplit(v).scheme else str(folder / v) for k, v in value.items()}

    @model_validator(mode="after")
    def _check_packed(self) -> "DatasetConfig":
        listed = self.model_fields_set & {"clip_list", "class_names", "folds", "retrieval_clips"}
        if self.is_packed and listed:
            raise ValueError(f"format shards takes index_urls alone, not {min(listed)}")
        if self.is_packed != bool(self.index_urls):
            raise ValueError("index_urls and format: shards belong together")
        if not self.is_packed:
            for key in ("clip_list", "class_names"):
                is_derived = key == "class_names" and self.format == "clips"
                if key not in self.model_fields_set and not is_derived:
                    raise ValueError(f"{key}: missing")
        return self

    @model_validator(mode="after")
    def _check_lists(self) -> "DatasetConfig":
        is_mapping = isinstance(self.clip_list, dict)
        is_wrong = (self.format in LISTS_PER_SPLIT) != is_mapping or self.clip_list == {}
        if isinstance(self.clip_list, dict) and self.format == "speech_commands":
            is_wrong = set(self.clip_list) != {"val", "test"}
        if is_wrong or self._has_gap():
            needed = LISTS_PER_SPLIT.get(self.format, "one path")
            raise ValueError(f"clip_list: format {self.format} needs {needed}")
        return self

    @model_validator(mode="after")
    def _check_modalities(self) -> "DatasetConfig":
        if self.modalities not in (("audio",), ("audio", "video")):
            raise ValueError(
                f"modalities: {list(self.modalities)} must be [audio] or [audio, video]"
            )
        return self

    def _has_gap(self) -> bool:
        return isinstance(self.clip_list, dict) and () in self.clip_list.values()

    @model_validator(mode="after")
    def _check_gallery(self) -> "DatasetConfig":
        keys = ("retrieval_per_class", "retrieval_size", "retrieval_clips")
        given = [key for key in keys if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both name the retrieval gallery; keep one")
        return self

    @model_validator(mode="after")
    def _check_folds(self) -> "DatasetConfig":
        if self.folds == 1:
            raise ValueError("folds: 1 leaves nothing to train on; at least 2, or 0 for none")
        if self.folds and self.format not in FORMATS_WITH_FOLDS:
            raise ValueError(
                f"folds: {self.folds}, but the lists of format {self.format} name no folds"
            )
        if self.format == "esc50" and not self.folds:
            raise ValueError("folds: format esc50 names a fold for each clip; set folds: 5")
        return self

    @property
    def is_packed(self) -> bool:
        """Whether its shards are there already: nothing is downloaded, transcoded or packed."""
        return self.format == "shards"

    @property
    def derives_classes(self) -> bool:
        """Whether it names no class list: its classes are the labels of its clips."""
        return not self.is_packed and self.class_names == Path()

    @property
    def has_video(self) -> bool:
        """Whether its clips have frames."""
        return "video" in self.modalities

    @property
    def splits(self) -> tuple[str, ...]:
        """What the clips may be split into, in order."""
        if not self.folds:
            return SPLITS
        return tuple(f"{FOLD_PREFIX}{number}" for number in range(1, self.folds + 1))

    @property
    def word_folders(self) -> tuple[Path, ...]:
        """The folders whose files are clips without standing in a list (Speech Commands).

        Folders such as _background_noise_ hold no words.
        """
        if self.format != "speech_commands" or not self.root.is_dir():
            return ()
        return tuple(sorted(p for p in self.root.iterdir() if p.is_dir() and p.name[0] not in "_."))

    @property
    def clip_lists(self) -> dict[str, tuple[Path, ...]]:
        """Clip list files by split; the key is empty where the file itself names the split."""
        if not isinstance(self.clip_list, dict):
            return {"": (self.clip_list,)}
        listed = {split: self.clip_list[split] for split in SPLITS if split in self.clip_list}
        return {k: paths if isinstance(paths, tuple) else (paths,) for k, paths in listed.items()}

    @property
    def list_files(self) -> tuple[Path, ...]:
        """Every clip list file, in the order of the splits."""
        return tuple(path for paths in self.clip_lists.values() for path in paths)

    @property
    def described_by(self) -> tuple[Path, ...]:
        """Its own files that an index is made from beside the YAML: classes, a gallery's list."""
        classes = () if self.is_packed or self.derives_classes else (self.class_names,)
        return (*classes, *([self.retrieval_clips] if self.retrieval_clips else []))

    @property
    def collection(self) -> str:
        """What it is a part of: AudioSet, VGGSound, or itself."""
        return self.name if self.format in ("clips", "shards") else self.format


def dataset_file(name: str) -> Path:
    """Return the YAML of a data set as a configuration names it, by name or by path."""
    return Path(name) if Path(name).suffix else Path(f"config/datasets/{name}.yaml")


def load_dataset(path: Path) -> DatasetConfig:
    """Read and check a data set's YAML.

    Raises:
        ConfigError: the file is missing or no YAML; a key is unknown, missing or has a wrong value.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: expected keys such as name, task, clip_list; got {shown(values)}"
        )
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
            near = did_you_mean(key, DatasetConfig.model_fields)
            problems.append(f"{key}: unknown key{near} (allowed: {allowed})")
        elif not key:
            problems.append(problem["msg"])
        else:
            value = hide_secrets(shown(problem["input"]))
            problems.append(f"{key}: {value}: {problem['msg']}")
    return "; ".join(problems)


def split_view(name: str) -> tuple[str, str]:
    """Split the name of a view into data set and held-out fold; a plain name has no fold."""
    match = FOLD_NAME.fullmatch(name)
    return (match["dataset"], match["split"]) if match else (name, "")


def missing_list(dataset: DatasetConfig, path: Path) -> str:
    """Say which list of a data set is missing and where it comes from."""
    fetched = f". `av-pipeline fetch {dataset.name}` fetches it, and so does a run"
    if path == dataset.class_names:
        origin = "" if dataset.format == "clips" else f"; {OFFICIAL_LISTS[dataset.format]}"
        return (
            f"{path}: no such file; it is the class list of data set {dataset.name} (class_names), "
            f"a CSV with the columns index,id,display_name and a line per class{origin}"
            + fetched
            * bool(dataset.official)
        )
    return (
        f"{path}: no such file; data set {dataset.name} needs it: {OFFICIAL_LISTS[dataset.format]}"
        + fetched * bool(dataset.official)
    )
