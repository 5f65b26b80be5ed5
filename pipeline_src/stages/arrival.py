"""Results that came here without Snakemake's records: moved, copied, or put beside a new clone.

Their times are those of copying, and without records no change of a setting would be seen. What
the files themselves say decides instead: what the configuration would make now is entered as
current; what it would not gets a time before everything, so that it is made again.
"""

import os
from base64 import urlsafe_b64decode
from binascii import Error
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline_src.catalog import Catalog
from pipeline_src.errors import PipelineError, StageError
from pipeline_src.stages.data import DATA_STAGES
from pipeline_src.stages.stage import Stage
from pipeline_src.stages.stale import stale_manifests
from pipeline_src.stages.table import all_stages
from pipeline_src.stages.tools import SETTLING_VARIABLE, run_tool
from pipeline_src.stages.validate import check_outputs

RECORDS = Path(".snakemake/metadata")
BEFORE_EVERYTHING = (1, 1)
# What a workflow leaves; a plan alone, which a dry run writes, is none of it.
MADE = ("*/download/*/*.json", "*/shards/*/*.json", "*/pretrain/done.json", "*/*/*/done.json")


def settle_arrived(catalog: Catalog, options: Sequence[str]) -> Iterator[str]:
    """Enter what fits as current, where results have no record at all; say what was done.

    Args:
        options: of a Snakemake that reads the same workflow and configuration.
    """
    if SETTLING_VARIABLE in os.environ or not _is_unrecorded(catalog.results):
        return
    try:
        num_kept = _enter(catalog, options)
    except PipelineError as error:
        yield f"{catalog.results} came without Snakemake's records, and stays so: {error}"
        return
    if num_kept:
        yield (
            f"{catalog.results} came without Snakemake's records: {num_kept} results that fit the "
            "configuration are kept, others are made again"
        )


def _enter(catalog: Catalog, options: Sequence[str]) -> int:
    """Enter what fits, one kind of stage after the other; the number of files."""
    groups: dict[str, list[Stage]] = {}
    for stage in all_stages(catalog):
        groups.setdefault(stage.kind, []).append(stage)
    num_kept = 0
    for group in groups.values():
        kept = [path for stage in group for path in _fitting(catalog, stage)]
        num_kept += len(kept)
        rules = sorted({rule for stage in group for rule in stage.rules})
        if kept:
            run_tool(
                *("snakemake", "--touch", "--forceall", "--allowed-rules", *rules),
                *(*options, "--", *kept),
            )
    return num_kept


def _is_unrecorded(results: Path) -> bool:
    """Whether there are results, and no record of any of them."""
    if not any(path for pattern in MADE for path in results.glob(pattern)):
        return False
    return not any(os.path.normpath(name).startswith(f"{results}{os.sep}") for name in _recorded())


def _recorded() -> Iterator[str]:
    for path in RECORDS.iterdir() if RECORDS.is_dir() else ():
        try:
            # A long name is cut into folders; its beginning is enough here.
            text = path.name.removeprefix("@")
            yield urlsafe_b64decode(text[: len(text) // 4 * 4]).decode(errors="replace")
        except Error:
            continue


def _fitting(catalog: Catalog, stage: Stage) -> list[str]:
    """What Snakemake is asked for to enter a stage; files that do not fit are made old."""
    try:
        check_outputs(catalog, stage)
    except StageError:
        return _parts(catalog, stage)
    return [stage.target]


def _parts(catalog: Catalog, stage: Stage) -> list[str]:
    """The manifests that fit of a data stage that fits in part; of others nothing."""
    if stage.kind not in DATA_STAGES:
        _make_old([Path(stage.target), *(Path(out.path) for out in stage.outs)])
        return []
    name = stage.name.removeprefix(f"{stage.kind}_")
    if catalog.dataset(name).is_packed:
        return []
    stale = set(stale_manifests(catalog, stage.kind, name))
    _make_old(list(stale))
    manifests = map(Path, catalog.chunk_files(stage.kind, name))
    return [str(path) for path in manifests if path.is_file() and path not in stale]


def _make_old(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_file():
            os.utime(path, BEFORE_EVERYTHING)
