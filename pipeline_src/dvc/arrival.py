"""Results that came here without Snakemake's records: moved, copied, or put beside a new clone.

Their times are those of copying, and without records no change of a setting would be seen. What
the files themselves say decides instead: what the configuration would make now is entered as
current; what it would not gets a time before everything, so that it is made again.
"""

import os
from base64 import urlsafe_b64decode
from binascii import Error
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

from pipeline_src.catalog import Catalog, paths
from pipeline_src.catalog.steps import CHUNK_STAGES
from pipeline_src.dvc.stage import Stage
from pipeline_src.dvc.stale import stale_manifests
from pipeline_src.dvc.table import all_stages
from pipeline_src.dvc.tools import RECONCILING_VARIABLE, run_tool
from pipeline_src.dvc.validate import check_outputs
from pipeline_src.errors import PipelineError, StageError

# Of what was made, and of what is being made or was interrupted: Snakemake knows of both.
RECORDS = (Path(".snakemake/metadata"), Path(".snakemake/incomplete"))
BEFORE_EVERYTHING = (1, 1)
# What a workflow leaves; a plan alone, which a dry run writes, is none of it.
MADE = [
    paths.as_glob(pattern)
    for pattern in (
        paths.of_stage(paths.MANIFEST, "download"),
        paths.of_stage(paths.MANIFEST, "shards"),
        *(paths.PRETRAINED, paths.FINETUNED, paths.SCORES, paths.FOLD_SCORES, paths.PROBE_SCORES),
        paths.REPORT,
    )
]


def reconcile_arrived(catalog: Catalog, options: Sequence[str]) -> Iterator[str]:
    """Enter what fits as current of the results that have no record; say what was done.

    Args:
        options: of a Snakemake that reads the same workflow and configuration.
    """
    if RECONCILING_VARIABLE in os.environ:
        return
    recorded = set(_recorded())
    if not any(_arrived((p for m in MADE for p in catalog.results.glob(m)), recorded)):
        return
    try:
        num_kept = _enter(catalog, options, recorded)
    except PipelineError as error:
        yield f"results in {catalog.results} came without Snakemake's records, and stay so: {error}"
        return
    if num_kept:
        yield (
            f"results in {catalog.results} came without Snakemake's records: {num_kept} that fit "
            "the configuration are kept, others are made again"
        )


def _enter(catalog: Catalog, options: Sequence[str], recorded: Set[str]) -> int:
    """Enter what fits, one kind of stage after the other; the number of files."""
    groups: dict[str, list[Stage]] = {}
    for stage in all_stages(catalog):
        groups.setdefault(stage.kind, []).append(stage)
    num_kept = 0
    for group in groups.values():
        kept = [path for stage in group for path in _fitting(catalog, stage, recorded)]
        num_kept += len(kept)
        rules = sorted({rule for stage in group for rule in stage.rules})
        if kept:
            run_tool(
                *("snakemake", "--touch", "--forceall", "--allowed-rules", *rules),
                *(*options, "--", *kept),
            )
    return num_kept


def _arrived(paths: Iterable[Path], recorded: Set[str]) -> list[Path]:
    """List those that are there and have no record."""
    return [path for path in paths if os.path.normpath(path) not in recorded and path.is_file()]


def _recorded() -> Iterator[str]:
    """Yield the files of which Snakemake has a record; a long name is cut into folders."""
    for folder in RECORDS:
        for path in folder.rglob("*"):
            if not path.is_file():
                continue
            parts = path.relative_to(folder).parts
            text = "".join(part.removeprefix("@") for part in parts)
            try:
                yield os.path.normpath(urlsafe_b64decode(text).decode(errors="replace"))
            except Error:
                continue


def _fitting(catalog: Catalog, stage: Stage, recorded: Set[str]) -> list[str]:
    """Return what Snakemake is asked for to enter a stage; files that do not fit are made old."""
    arrived = _arrived(_files(catalog, stage), recorded)
    if not arrived:
        return []
    try:
        check_outputs(catalog, stage)
    except StageError:
        return _parts(catalog, stage, arrived)
    return [stage.target]


def _files(catalog: Catalog, stage: Stage) -> Iterator[Path]:
    """Yield the files by which a stage is known to have a record."""
    name = stage.name.removeprefix(f"{stage.kind}_")
    if stage.kind in CHUNK_STAGES and not catalog.dataset(name).is_packed:
        yield from map(Path, catalog.chunk_files(stage.kind, name))
        if stage.kind == "shards":
            yield from map(Path, catalog.indexes(name))
        return
    for path in (Path(stage.target), *(Path(out.path) for out in stage.outs)):
        yield from path.rglob("*") if stage.kind in CHUNK_STAGES and path.is_dir() else (path,)


def _parts(catalog: Catalog, stage: Stage, arrived: Sequence[Path]) -> list[str]:
    """Return the manifests that fit of a data stage that fits in part; of others nothing."""
    if stage.kind not in CHUNK_STAGES:
        _make_old(arrived)
        return []
    name = stage.name.removeprefix(f"{stage.kind}_")
    if catalog.dataset(name).is_packed:
        return []
    stale = {path for path in stale_manifests(catalog, stage.kind, name) if path in arrived}
    _make_old(list(stale))
    manifests = set(map(Path, catalog.chunk_files(stage.kind, name)))
    return [str(path) for path in arrived if path in manifests and path not in stale]


def _make_old(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_file():
            os.utime(path, BEFORE_EVERYTHING)
