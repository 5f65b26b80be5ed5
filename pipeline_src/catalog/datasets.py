"""Which data sets a target can name, and which files their stages write."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from pathlib import Path

from pipeline_src.catalog import paths
from pipeline_src.catalog.steps import PLAN
from pipeline_src.config import Config, MediaConfig
from pipeline_src.datasets.chunk_plan import clips_per_class, ensure_plan
from pipeline_src.datasets.classes import load_classes
from pipeline_src.datasets.dataset import DatasetConfig, load_dataset
from pipeline_src.datasets.presence import refuse_missing
from pipeline_src.datasets.retrieval_lists import load_gallery
from pipeline_src.errors import ConfigError, ManifestError, did_you_mean
from pipeline_src.system.lock import refuse_if_held

# Folders of the results, and names that would turn a target into a rule's name.
RESERVED_NAMES = {
    "clips",
    "ledger",
    "model",
    "finetuned",
    "pretrained",
    "logs",
    "benchmarks",
    "report",
}


def spelled_alike(entry: str) -> Path:
    """Return a path as all spellings of it are recorded: relative to the working folder if in it.

    Jobs are made again where a path among their inputs is another one.
    """
    given = Path.cwd() / entry
    path = Path(os.path.normpath(given))  # links stay as they are
    if given.exists() and not (path.exists() and path.samefile(given)):
        return given  # .. behind a link
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class DatasetCatalog:
    """Data sets by name for one configuration, and the files of their stages.

    Args:
        folder: where named data sets are described, one ``<name>.yaml`` each.
        looks_for_files: refuse a data set of which nothing is fetched as yet and most local files
            are missing.
        fetch: brings a data set's published lists where they are missing, before they are read.
    Raises:
        ConfigError: a listed data set does not exist, or two things share a name.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        *,
        looks_for_files: bool = False,
        fetch: Callable[[DatasetConfig], object] = lambda dataset: None,
    ) -> None:
        self.config = config
        self._looks_for_files = looks_for_files
        self._fetch = fetch
        self.results = Path(config.results)
        known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        self.listed = tuple(self._add_listed(entry, known) for entry in config.datasets)
        if twice := [name for name in self.listed if self.listed.count(name) > 1]:
            raise ConfigError(f"datasets: {twice[0]!r} is listed twice; keep one")
        self._paths = known
        if reserved := RESERVED_NAMES & (set(known) | set(config.run_names)):
            raise ConfigError(
                f"{min(reserved)!r} is a name that the workflow uses; rename the data set or run"
            )
        if shared := set(known) & set(config.run_names):
            raise ConfigError(f"runs.{min(shared)}: a data set has this name; rename the run")

    def fill(self, pattern: str, **names: str) -> str:
        """Return the path of the results that a pattern stands for."""
        return paths.fill(pattern, self.results, **names)

    def _add_listed(self, entry: str, known: dict[str, Path]) -> str:
        if entry in known:
            return entry
        path = spelled_alike(entry)
        if path.suffix not in (".yaml", ".yml") or not path.is_file():
            raise ConfigError(
                f"datasets: {entry!r} is neither a known data set ({', '.join(known)}) nor the "
                f"path of a data set's YAML file{did_you_mean(entry, known)}"
            )
        name = load_dataset(path).name
        if name in known and known[name].resolve() != path.resolve():
            raise ConfigError(
                f"datasets: {path} has the name of {known[name]}: {name!r}; rename it"
            )
        known[name] = path
        return name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every data set that a target can name."""
        return tuple(self._paths)

    @cache  # noqa: B019 - one catalog lives as long as the process
    def dataset(self, name: str) -> DatasetConfig:
        """Return the checked description of a data set.

        Raises:
            ConfigError: unknown name or a wrong file.
        """
        if name not in self._paths:
            near = did_you_mean(name, self.names)
            raise ConfigError(f"unknown data set {name!r}{near}; known: {', '.join(self.names)}")
        dataset = load_dataset(self._paths[name])
        if dataset.name != name:
            raise ConfigError(
                f"{self._paths[name]}: name: {dataset.name!r}, the file says {name!r}"
            )
        return dataset

    def has_lists(self, name: str) -> bool:
        """Tell whether nothing of a data set's lists is left to be fetched by a run."""
        dataset = self.dataset(name)
        return not dataset.official or all(path.is_file() for path in dataset.list_files)

    def _bring_lists(self, name: str) -> DatasetConfig:
        dataset = self.dataset(name)
        self._fetch(dataset)
        return dataset

    @cache  # noqa: B019
    def num_chunks(self, name: str) -> dict[str, int]:
        """Count chunks per split, of a list planned again when it has changed; none if packed.

        Raises:
            ManifestError: the list is missing or wrong: file, line and value.
        """
        if self.dataset(name).is_packed:
            return {}
        self._bring_lists(name)
        planned = ensure_plan(
            self.dataset(name),
            chunk_size=self.config.plan.chunk_size,
            max_seconds=self.config.media.max_seconds,
            folder=self.stage_folder(PLAN, name),
            before_write=lambda: refuse_if_held(self.results),
        )
        if self._looks_for_files:
            self._look_for_files(name, planned)
        return planned

    def _look_for_files(self, name: str, splits: Iterable[str]) -> None:
        """Raise ManifestError where files of a split are missing of which nothing is made yet."""
        for split in splits:
            made = [
                Path(self.chunk_file(stage, name, split, "*")) for stage in ("download", "shards")
            ]
            if not any(any(path.parent.glob(path.name)) for path in made):
                description, dataset = self._paths[name], self.dataset(name)
                refuse_missing(description, dataset, self.stage_folder(PLAN, name), split)

    @cache  # noqa: B019
    def clips_per_class(self, name: str, split: str) -> Counter[int] | None:
        """Count the listed clips of a split by first label; None where packed shards alone know."""
        if self.dataset(name).is_packed:
            return None
        self.num_chunks(name)
        return clips_per_class(self.stage_folder(PLAN, name), split)

    @cache  # noqa: B019
    def num_classes(self, name: str) -> int:
        """Count the classes of a data set; 0 where only the index of packed shards knows them."""
        dataset = self._bring_lists(name)
        return 0 if dataset.is_packed else len(load_classes(dataset, self._class_list(name)).ids)

    def _class_list(self, name: str) -> Path:
        """Return the class list that the data set names, or the one that is planned of its list."""
        dataset = self.dataset(name)
        if not dataset.derives_classes:
            return dataset.class_names
        self.num_chunks(name)
        return Path(self.fill(paths.CLASSES, dataset=name))

    def media(self, name: str) -> MediaConfig:
        """Return how a data set is decoded: without frames where it has no video."""
        media = self.config.media
        return media if self.dataset(name).has_video else media.without_frames()

    def clip_sources(self, name: str) -> dict[str, str | bool]:
        """Return where a data set's clips lie beside what its list says."""
        dataset = self.dataset(name)
        sources = dataset.model_dump(include={"clip_file", "mirror", "mirror_is_cut"})
        is_own = dataset.format == "clips"
        return sources | {"clip_list": str(dataset.list_files[0]) if is_own else ""}

    def dataset_path(self, name: str) -> Path:
        """Return the YAML file of a data set."""
        self.dataset(name)
        return self._paths[name]

    def dataset_files(self, name: str) -> list[str]:
        """Return the files beside the YAML that an index is made from, the class list first.

        Raises:
            ManifestError: the list of the gallery is missing or wrong.
        """
        dataset = self._bring_lists(name)
        load_gallery(dataset)
        planned = [self._class_list(name)] if dataset.derives_classes else []
        return [str(path) for path in (*planned, *dataset.described_by)]

    def splits(self, name: str) -> tuple[str, ...]:
        """Return the splits that the list fills, in the order train, val, test, or of the folds."""
        filled = self.dataset(name).index_urls or self.num_chunks(name)
        return tuple(split for split in self.dataset(name).splits if filled.get(split))

    def chunk_files(self, stage: str, name: str, split: str = "") -> list[str]:
        """Return the ``stage``'s file of every chunk: plans are .csv, manifests .json.

        Raises:
            ConfigError: the data set's shards are packed elsewhere.
        """
        if self.dataset(name).is_packed:
            raise ConfigError(
                f"data set {name}: its shards are packed already, there is no {stage} of it; "
                f"shards_{name} fetches their index"
            )
        return [
            self.chunk_file(stage, name, one, f"{chunk:05d}")
            for one, count in self.num_chunks(name).items()
            for chunk in range(count)
            if split in ("", one)
        ]

    def chunk_file(self, stage: str, name: str, split: str, chunk: str) -> str:
        """Return the ``stage``'s file of one chunk."""
        pattern = paths.LISTED_CLIPS if stage == PLAN else paths.MANIFEST
        return self.fill(pattern, dataset=name, stage=stage, split=split, chunk=chunk)

    # A param: spelled as the configuration spells the results, or all would be fetched anew.
    def raw_folder(self, name: str, split: str, chunk: str) -> str:
        """Return where the clips of a chunk are fetched to."""
        names = {"dataset": name, "split": split, "chunk": chunk}
        return paths.fill(paths.RAW_CLIPS, self.config.results, **names)

    @property
    def hosts_folder(self) -> str:
        """Where all jobs note what they know of the hosts they ask."""
        return paths.fill(paths.HOSTS, self.config.results)

    def stage_folder(self, stage: str, name: str) -> Path:
        """Return where a stage writes of a data set, a folder for each split in it."""
        return Path(self.chunk_file(stage, name, "*", "*")).parents[1]

    def earlier_shards(self, name: str, split: str) -> list[str]:
        """List manifests of the splits whose clips those of ``split`` may be duplicates of.

        Folds in order. Else train, which every index reads anyway, so that no split waits for
        another; but where duplicates are left out, what is scored stands before what is learnt
        from: see ``shards.duplicates``.
        """
        earlier = self.splits(name)[: self.splits(name).index(split)]
        if not self.dataset(name).folds:
            is_left_out = self.config.shards.excludes_duplicates
            after = self.splits(name)[self.splits(name).index(split) + 1 :]
            earlier = after[::-1] if is_left_out else tuple(s for s in earlier if s == "train")
        return [path for one in earlier for path in self.chunk_files("shards", name, one)]

    def downloads(self, name: str) -> list[str]:
        """Return everything that ``download_<name>`` makes."""
        return [*self.chunk_files("download", name), self.download_ledger(name)]

    def download_ledger(self, name: str) -> str:
        """Return the download ledgers of all chunks in one file."""
        return self.fill(paths.ALL_LEDGERS, dataset=name, stage="download")

    def ledgers(self, name: str) -> list[str]:
        """Return the ledgers of all stages in one file; none of shards packed elsewhere."""
        if self.dataset(name).is_packed:
            return []
        return [self.fill(paths.ALL_LEDGERS, dataset=name, stage="shards")]

    def packed_chunks(self, name: str, split: str = "") -> list[str]:
        """Return the manifests of packed chunks; none of shards packed elsewhere."""
        return [] if self.dataset(name).is_packed else self.chunk_files("shards", name, split)

    def chunks_behind(self, indexes: Iterable[str]) -> list[str]:
        """Return the manifests that indexes list.

        Who reads an index reads them too: Snakemake makes a missing file again for a job that
        names it, and not for one that names only what is made of it.
        """
        chunks = []
        for index in map(Path, indexes):
            chunks += self.packed_chunks(index.parents[2].name, index.parent.name)
        return chunks

    def listed_shards(self) -> list[str]:
        """Return manifests and ledgers of every listed data set."""
        return [
            path
            for name in self.listed
            for path in (*self.packed_chunks(name), *self.ledgers(name))
        ]

    def shards(self, name: str) -> list[str]:
        """Return everything that ``shards_<name>`` makes."""
        return [*self.packed_chunks(name), *self.indexes(name), *self.ledgers(name)]

    def index(self, name: str, split: str) -> str:
        """Return index.json of one split.

        Raises:
            ManifestError: the list has no such split.
        """
        if split not in self.splits(name):
            advice = ""
            if self.dataset(name).folds and split == "train":
                advice = (
                    "; its folds are for fine-tuning alone: name other data sets in "
                    "pretrain.datasets (empty = all), or set finetune.init: scratch"
                )
            elif self.dataset(name).folds:
                advice = f"; each of its folds is evaluated by its own name, e.g. {name}_fold1"
            raise ManifestError(
                f"data set {name}: no clip has split {split!r}; "
                f"splits in the list: {', '.join(self.splits(name))}{advice}"
            )
        pattern = paths.FETCHED_INDEX if self.dataset(name).is_packed else paths.PACKED_INDEX
        return self.fill(pattern, dataset=name, split=split)

    def clip_groups(self, name: str, split: str) -> list[str]:
        """Return the file of what a split's clips share, or nothing where its list names none."""
        self.num_chunks(name)
        path = self.fill(paths.CLIP_GROUPS, dataset=name, split=split)
        return [path] if Path(path).is_file() else []

    def optional_index(self, name: str, split: str) -> list[str]:
        """Return index.json of a split, or nothing where the list has no such split."""
        return [self.index(name, split)] if split in self.splits(name) else []

    def indexes(self, name: str) -> list[str]:
        """Return index.json of every split."""
        return [self.index(name, split) for split in self.splits(name)]

    def report_indexes(self) -> list[str]:
        """Return index.json of every split of every listed data set."""
        return [path for name in self.listed for path in self.indexes(name)]
