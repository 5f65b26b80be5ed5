"""Whether the local files of a clip list are there, looked for before anything is run."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import yaml

from pipeline_src.datasets.chunk_plan import read_plan_chunk
from pipeline_src.datasets.clip_lists import ClipRow
from pipeline_src.datasets.dataset import DatasetConfig
from pipeline_src.datasets.sources import source_kind, split_member
from pipeline_src.errors import ManifestError, StageError

MAX_LOOKED_FOR = 1000
# A list of which more is missing lies elsewhere; single clips that are gone are ledger rows.
MOST = 0.5
BEGINNINGS = re.compile(r"lost\+found|\.Trash.*|\.(git)?keep|\.DS_Store|\.directory|\.snapshot")


def refuse_missing(description: Path, dataset: DatasetConfig, plan: Path, split: str) -> None:
    """Look for the first clips of a split that are local files, or members of a local archive.

    Args:
        description: the data set's YAML. plan: folder of its chunks.
    Raises:
        ManifestError: the root is no folder, or most clips are missing; names the first path tried.
    """
    if dataset.mirror:
        return
    local = list(islice(_local_clips(plan / split, split), MAX_LOOKED_FOR))
    if not local:
        return
    root = f"root {_stated_root(description)} of {description}"
    missing = [clip for clip in local if not _is_there(clip, dataset)]
    if len(missing) <= MOST * len(local):
        return
    first = missing[0]
    tried = dataset.root / _file_of(first.source)
    if not _holds(dataset.root.is_dir) and not Path(first.source).is_absolute():
        raise ManifestError(
            f"data set {dataset.name}: {dataset.root.absolute()} is no folder, and the clips of "
            f"{split} are looked for there ({root}); correct root"
        )
    raise ManifestError(
        f"data set {dataset.name}: {len(missing)} of the first {len(local)} clips of {split} are "
        f"missing; tried first: {tried.absolute()}, which is source {first.source!r} of clip "
        f"{first.clip_id!r} below {root}; correct root or the list"
    )


def refuse_absent_root(root: Path, clips: Iterable[ClipRow]) -> None:
    """Refuse to look for local files where their disk may be away.

    Each would be lost as one that is not there, and what was made of it replaced by nothing. So it
    is where the root is no folder or empty, or where most clips are looked for in or below folders
    that are: empty places to mount at. Single files that are gone are rows of the ledger.

    Args:
        clips: of one chunk, all of them, each with the source that it is looked for at first.
    Raises:
        StageError: names the folder and a clip that is looked for there.
    """
    files = {clip: root / _file_of(clip.source) for clip in clips if _is_below_root(clip)}
    missing = {clip: file for clip, file in files.items() if not _holds(file.is_file)}
    if not missing:
        return
    if len(missing) == len(files) and not _has_anything(root):
        raise _away(root, next(iter(missing)), "or take its clips out of the list")
    folders = {clip: _deepest_folder(file, root) for clip, file in missing.items()}
    empty = {one for one in {*folders.values()} - {root} if not _has_anything(one)}
    away = [clip for clip, folder in folders.items() if folder in empty]
    if len(away) > MOST * len(files):
        others = f" ({len(empty) - 1} more folders are empty)" if len(empty) > 1 else ""
        raise _away(folders[away[0]], away[0], f"or delete it if its files are gone{others}")


def _deepest_folder(file: Path, root: Path) -> Path:
    """Return the folder that is there, of those from ``root`` down to a file's."""
    below = [folder for folder in file.parents if folder.is_relative_to(root)]
    return next((folder for folder in below if _holds(folder.is_dir)), root)


def _away(folder: Path, clip: ClipRow, otherwise: str) -> StageError:
    is_there = _holds(folder.is_dir)
    end = f"; {otherwise}" if is_there else ""
    return StageError(
        f"{folder.absolute()} is {'empty' if is_there else 'no folder'}, and source "
        f"{clip.source!r} of clip {clip.clip_id!r} is looked for there; mount its disk or correct "
        f"root, and run the same command again{end}"
    )


def _has_anything(folder: Path) -> bool:
    """Return whether a folder holds more than what file systems and places to mount begin with."""
    try:
        with os.scandir(folder) as found:  # the first entries of maybe millions
            return any(not BEGINNINGS.fullmatch(one.name) for one in found)
    except PermissionError:  # of a folder that one may enter and not list; each file will say
        return True
    except OSError:
        return False


def _is_below_root(clip: ClipRow) -> bool:
    file = _file_of(clip.source)
    return source_kind(file) == "local" and not Path(file).is_absolute()


def _local_clips(folder: Path, split: str) -> Iterator[ClipRow]:
    for path in sorted(folder.glob("*.csv")):
        for clip in read_plan_chunk(path, split):
            if source_kind(_file_of(clip.source)) == "local":
                yield clip


def _file_of(source: str) -> str:
    """Return the file itself, or the archive that it is a member of."""
    return split_member(source)[0] if source_kind(source) == "member" else source


def _is_there(clip: ClipRow, dataset: DatasetConfig) -> bool:
    ready = dataset.clip_file.replace("{clip_id}", clip.clip_id)
    names = [_file_of(clip.source), *([ready] if ready else [])]
    return any(_holds((dataset.root / name).is_file) for name in names)


def _holds(check: Callable[[], bool]) -> bool:
    """Return whether the file exists; False for a name that no file can have."""
    try:
        return check()
    except OSError:
        return False


def _stated_root(description: Path) -> str:
    """Return the root as the YAML states it; without one, sources start from the YAML's folder."""
    stated = yaml.safe_load(description.read_text(encoding="utf-8")).get("root")
    return repr(stated) if stated is not None else "(none stated: the YAML's folder)"
