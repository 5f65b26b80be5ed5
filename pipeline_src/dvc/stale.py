"""Drop the manifests that another configuration, another list or another input left."""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.steps import CHUNK_STAGES, PLAN, VERSION_PARAM
from pipeline_src.datasets.chunk_plan import planned_clips
from pipeline_src.errors import ConfigError
from pipeline_src.manifest.input_hash import hash_inputs

CHUNK_PATTERN = re.compile(r"(?:[a-z]+\d*-)?(\d{5})(?:_\d{3})?\.(?:json|ledger\.csv|tar)")
logger = logging.getLogger(__name__)


def stale_manifests(catalog: Catalog, kind: str, name: str) -> list[Path]:
    """List chunk manifests of a data stage that are there but were made from something else."""
    columns = [catalog.chunk_files(stage, name) for stage in (kind, *CHUNK_STAGES[kind].reads)]
    stale = []
    for manifest, *inputs in (map(Path, row) for row in zip(*columns, strict=True)):
        if manifest.is_file() and _origin_of(manifest) not in _expected(
            catalog, kind, name, inputs
        ):
            stale.append(manifest)
    return stale


def drop_stale(catalog: Catalog, kind: str, name: str) -> int:
    """Delete stale manifests and files of chunks that the list no longer has; return how many.

    Run by DVC before a data stage that has to run. Snakemake alone would keep files that
    ``dvc checkout`` brought back, because its records are of this checkout and not of the files.

    Raises:
        ConfigError: ``kind`` is no stage of a data set.
    """
    if kind not in CHUNK_STAGES:
        raise ConfigError(f"{kind}_{name}: only stages of data sets keep what they have made")
    stale = stale_manifests(catalog, kind, name) + _left_over(catalog, kind, name)
    if kind == "shards":  # cheap to make again, and its inputs may be of another time
        made_of_them = (*catalog.indexes(name), *catalog.ledgers(name))
        stale += [path for path in map(Path, made_of_them) if path.is_file()]
    for path in stale:
        path.unlink()
        logger.info("%s: dropped, made from something else", path)
    return len(stale)


def _origin_of(manifest: Path) -> str:
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8")).get("origin", ""))
    except (OSError, ValueError):
        return ""


def _expected(catalog: Catalog, kind: str, name: str, inputs: Sequence[Path]) -> list[str]:
    if not all(path.is_file() for path in inputs):
        return []
    settings = dict(catalog.recorded(CHUNK_STAGES[kind].rule, name))
    version = settings.pop(VERSION_PARAM)
    forms: list[Sequence[Path | bytes]] = [inputs]
    if CHUNK_STAGES[kind].reads == (PLAN,):  # older manifests hash the lines of the list, too
        forms.append([planned_clips(path) for path in inputs])
    return [hash_inputs(form, version, **settings) for form in forms]


def _left_over(catalog: Catalog, kind: str, name: str) -> list[Path]:
    num_chunks = catalog.num_chunks(name)
    found = []
    for path in sorted(catalog.stage_folder(kind, name).glob("*/*")):
        match = CHUNK_PATTERN.fullmatch(path.name)
        if match and int(match[1]) >= num_chunks.get(path.parent.name, 0):
            found.append(path)
    return found
