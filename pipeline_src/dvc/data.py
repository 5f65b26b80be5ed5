"""Stages of one data set: clip list -> raw clips -> audio and frames -> log-mel -> shards."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.steps import CHUNK_STAGES, PLAN
from pipeline_src.datasets.clip_lists import read_clips
from pipeline_src.datasets.dataset import DatasetConfig
from pipeline_src.datasets.sources import source_kind, split_member
from pipeline_src.dvc.settings import dataset_keys, versions_of
from pipeline_src.dvc.stage import Out, Stage, relative_path


def data_stages(catalog: Catalog, name: str) -> Iterator[Stage]:
    """Yield the stages of a data set, each after those that it reads from."""
    dataset = catalog.dataset(name)
    if dataset.is_packed:
        yield _packed_stage(catalog, name)
        return
    stage = partial(_data_stage, catalog, name)
    folder = {kind: str(catalog.stage_folder(kind, name)) for kind in CHUNK_STAGES}
    silent = "" if dataset.has_video else relative_path(catalog.dataset_path(name))
    described = [catalog.dataset_path(name), *dataset.described_by]
    if dataset.derives_classes:  # classes.csv is nobody's output; the list decides what is in it
        described += dataset.list_files
    yield stage("download", ["download_clips", "download_ledger"], _listed(catalog, name))
    yield stage("transcode", ["transcode_clips"], [folder["download"]], silent)
    yield stage("logmel", ["extract_logmel"], [folder["transcode"]])
    yield stage(
        "shards",
        ["pack_shard", "pack_index", "pack_ledger"],
        [folder["download"], folder["transcode"], folder["logmel"], *described],
    )


def _data_stage(
    catalog: Catalog,
    name: str,
    kind: str,
    rules: Sequence[str],
    deps: Sequence[str | Path],
    modalities_of: str = "",
) -> Stage:
    is_first = PLAN in CHUNK_STAGES[kind].reads  # the list is cut into chunks for it
    return Stage(
        name=f"{kind}_{name}",
        rules=(*rules, f"{kind}_{name}"),
        target=f"{kind}_{name}",
        deps=tuple(sorted(relative_path(path) for path in deps)),
        params=(*(["plan"] if is_first else []), *dataset_keys(rules)),
        versions=(*(["PLAN"] if is_first else []), *versions_of(rules)),
        outs=(Out(str(catalog.stage_folder(kind, name)), persist=True),),
        modalities_of=modalities_of,
        before=(f"python -m pipeline_src stages --drop-stale {kind}_{name}",),
    )


def _listed(catalog: Catalog, name: str) -> list[Path]:
    """Return the files that say which clips there are, and the archives that hold some."""
    dataset = catalog.dataset(name)
    return [
        catalog.dataset_path(name),
        *([] if dataset.derives_classes else [dataset.class_names]),
        *dataset.list_files,
        *_archives(dataset, catalog.config.media.max_seconds),
    ]


def _packed_stage(catalog: Catalog, name: str) -> Stage:
    """Return the stage of shards packed already: their indexes; the shards are not versioned."""
    return Stage(
        name=f"shards_{name}",
        rules=("fetch_index", f"shards_{name}"),
        target=f"shards_{name}",
        deps=(relative_path(catalog.dataset_path(name)),),
        params=(),
        versions=versions_of(["fetch_index"]),
        outs=(Out(str(catalog.stage_folder("remote", name))),),
    )


def _archives(dataset: DatasetConfig, max_seconds: float) -> list[Path]:
    """Return the local archives that clips are members of."""
    sources = (clip.source for clip in read_clips(dataset, max_seconds=max_seconds))
    found = {split_member(source)[0]: None for source in sources if source_kind(source) == "member"}
    return [dataset.root / archive for archive in found]
