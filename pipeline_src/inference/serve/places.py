"""The index that a person names: its folder, or that of a run, for which one is built."""

import logging
from pathlib import Path

from pipeline_src.catalog import paths
from pipeline_src.errors import ConfigError
from pipeline_src.inference.locate import locate
from pipeline_src.inference.model import load
from pipeline_src.inference.search.build import build_index
from pipeline_src.inference.search.sources import packed_splits
from pipeline_src.inference.search.store import ABOUT_FILE, BEGUN_FILE, ClipIndex
from pipeline_src.inference.stream import Options

logger = logging.getLogger(__name__)
RUN_INDEX = "search"  # folder of a run's own index


def find_index(folder: Path, device: str) -> ClipIndex:
    """Open the index of a folder; a run's is built of the data sets that it was evaluated on.

    Raises:
        ConfigError: the folder is neither an index nor a run with packed clips beside it.
    """
    if (folder / BEGUN_FILE).is_file():
        return ClipIndex(folder)
    own = folder / RUN_INDEX
    if (own / ABOUT_FILE).is_file():
        return ClipIndex(own)
    sources = [path for path in _evaluated(folder) if packed_splits(path)]
    if not sources:
        raise ConfigError(
            f"{folder}: neither an index nor a run with packed clips; run `av-pipeline search "
            "build CHECKPOINT FOLDER --index DIR`, then `av-pipeline serve DIR`"
        )
    pretraining = folder / paths.PRETRAIN_FOLDER
    model = load(locate(pretraining if pretraining.is_dir() else folder).folder, device=device)
    logger.info("%s: built of %s, once", own, ", ".join(map(str, sources)))
    options = Options(modalities=model.modalities, progress=str(own))
    return build_index(model, sources, own, options)


def _evaluated(run: Path) -> list[Path]:
    """List results of the data sets that a run was evaluated or probed on."""
    patterns = [paths.glob_within(one, "run") for one in (paths.SCORES, paths.PROBE_SCORES)]
    names = {path.parent.name for pattern in patterns for path in run.glob(pattern)}
    return [run.parent / name for name in sorted(names)]
