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
from pipeline_src.dvc.validate import check_outputs, check_split_index
from pipeline_src.errors import PipelineError, StageError
from pipeline_src.shards.files import INDEX_FILE

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
    num_kept = 0
    for kept, error in _enter(catalog, options, recorded):
        num_kept += kept
        if error:
            yield (
                f"results in {catalog.results} came without Snakemake's records, and some stay so, "
                f"to be made again: {error}"
            )
    if num_kept:
        yield (
            f"results in {catalog.results} came without Snakemake's records: {num_kept} that fit "
            "the configuration are kept, others are made again"
        )


def _enter(
    catalog: Catalog, options: Sequence[str], recorded: Set[str]
) -> Iterator[tuple[int, PipelineError | None]]:
    """Enter what fits, one kind of stage after the other; yield the number of files, or why not."""
    groups: dict[str, list[Stage]] = {}
    for stage in all_stages(catalog):
        groups.setdefault(stage.kind, []).append(stage)
    for group in groups.values():
        fitting = {stage.name: _fitting(catalog, stage, recorded) for stage in group}
        rules = sorted({rule for stage in group for rule in stage.rules})
        kept = [path for paths in fitting.values() for path in paths]
        try:
            yield _touch(kept, rules, options), None
        except PipelineError:  # of one of them; the others shall not be made again for it
            for paths in fitting.values():
                yield from _touch_alone(paths, rules, options)


def _touch_alone(
    kept: Sequence[str], rules: Sequence[str], options: Sequence[str]
) -> Iterator[tuple[int, PipelineError | None]]:
    """Enter a stage's chunks, and what is made of all of them, apart from each other."""
    indexes = [path for path in kept if Path(path).name == INDEX_FILE]
    for some in ([path for path in kept if path not in indexes], *([one] for one in indexes)):
        try:
            yield _touch(some, rules, options), None
        except PipelineError as error:
            yield 0, error


def _touch(kept: Sequence[str], rules: Sequence[str], options: Sequence[str]) -> int:
    if kept:
        run_tool(
            *("snakemake", "--touch", "--forceall", "--allowed-rules", *rules),
            *(*options, "--", *kept),
        )
    return len(kept)


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
    files = list(_files(catalog, stage))
    arrived = _arrived(files, recorded)
    if not arrived:
        return []
    try:
        check_outputs(catalog, stage)
    except StageError:
        return _parts(catalog, stage, arrived)
    # Of a target that asked for one split, as `pretrain` does, Snakemake could not enter the rest.
    is_part = stage.kind in CHUNK_STAGES and not all(path.exists() for path in files)
    return _parts(catalog, stage, arrived) if is_part else [stage.target]


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
    """Return what fits of a data stage that fits or is there in part; of others nothing."""
    if stage.kind not in CHUNK_STAGES:
        _make_old(arrived)
        return []
    name = stage.name.removeprefix(f"{stage.kind}_")
    if catalog.dataset(name).is_packed:
        return []
    stale = {path for path in stale_manifests(catalog, stage.kind, name) if path in arrived}
    _make_old(list(stale))
    manifests = set(map(Path, catalog.chunk_files(stage.kind, name)))
    kept = [path for path in arrived if path in manifests and path not in stale]
    if stage.kind == "shards":
        indexes = set(map(Path, catalog.indexes(name))).intersection(arrived)
        fitting = {path for path in indexes if _is_fitting_index(catalog, name, path, stale)}
        _make_old(list(indexes - fitting))
        kept += [path for path in arrived if path in fitting]
    return [str(path) for path in kept]


def _is_fitting_index(catalog: Catalog, name: str, path: Path, stale: Set[Path]) -> bool:
    """Return whether an index is of a split that is there whole, as are those it is compared with.

    Snakemake enters no file whose inputs are missing.
    """
    split = path.parent.name
    read = {*catalog.chunk_files("shards", name, split), *catalog.earlier_shards(name, split)}
    read |= set(catalog.chunk_files("shards", name, "train") if split != "train" else ())
    if any(Path(one) in stale or not Path(one).is_file() for one in read):
        return False
    try:
        check_split_index(catalog, name, path)
    except (PipelineError, OSError, ValueError, KeyError):
        return False
    return True


def _make_old(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_file():
            os.utime(path, BEFORE_EVERYTHING)
