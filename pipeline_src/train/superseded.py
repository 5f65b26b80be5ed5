"""Trainings of other configurations in a run's folder: set aside, and brought back when wanted.

A training is several files, which move together: published beside the log of another one, weights
would get its curve. A move that was cut short is ended by the next start, before it looks at
anything.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline_src.runs.history import HISTORY_FILE, METRICS_LOG_FILE, VALIDATION_FILE
from pipeline_src.runs.spec import (
    CHECKPOINTS_FOLDER,
    DONE_FILE,
    LOGGERS_FILE,
    PUBLISHED_FOLDER,
    SUPERSEDED_FOLDER,
    saved_progress,
    saved_states,
    superseded_folders,
    whole_progress,
)
from pipeline_src.system.atomic import fsync

logger = logging.getLogger(__name__)
RESULT = (PUBLISHED_FOLDER, DONE_FILE, HISTORY_FILE, VALIDATION_FILE)
COURSE = (CHECKPOINTS_FOLDER, "tensorboard", METRICS_LOG_FILE, LOGGERS_FILE)
# What is set aside at a time; the name is the ending of its folder until all of it is there.
PARTS = {"whole": (*COURSE, *RESULT), "result": RESULT, "course": COURSE}
COMING_BACK = ".back"


def recall(run_dir: Path, fingerprint: str) -> None:
    """Set other configurations' trainings aside, and bring back this one's if it was set aside."""
    _end_moves(run_dir)
    _set_foreign_aside(run_dir, fingerprint)
    if saved_progress(run_dir, fingerprint)[0]:
        return
    kept = [one for one in superseded_folders(run_dir) if saved_progress(one, fingerprint)[0]]
    if not kept:
        return
    best = max(kept, key=lambda one: (whole_progress(one, fingerprint), one))
    _bring_back(run_dir, best.rename(best.with_suffix(COMING_BACK)))
    _set_foreign_aside(run_dir, fingerprint)  # older versions set two trainings aside as one
    logger.info("%s: brought back what this configuration had trained", run_dir)


def set_aside(run_dir: Path, part: str = "whole") -> None:
    """Move what another configuration left here into ``superseded``; nothing is lost."""
    if not any((run_dir / name).exists() for name in PARTS[part]):
        return
    parent = run_dir / SUPERSEDED_FOLDER
    taken = [int(path.name[:3]) for path in parent.glob("[0-9][0-9][0-9]*")]
    target = parent / f"{max(taken, default=-1) + 1:03d}.{part}"
    target.mkdir(parents=True)
    kept = _fill(run_dir, target, part)
    logger.warning("%s: files of another configuration moved to %s", run_dir, kept)


def _set_foreign_aside(run_dir: Path, fingerprint: str) -> None:
    """Set aside what is here of other configurations, that of each in a folder of its own.

    Version 0.1 let a training run beside what an earlier one had published.
    """
    owners: dict[str, set[str]] = {"result": set(), "course": set()}
    for folder, state in saved_states(run_dir):
        part = "result" if folder.name == PUBLISHED_FOLDER else "course"
        owners[part].add(state["fingerprint"])
    foreign = [part for part, those in owners.items() if those and fingerprint not in those]
    is_mixed = owners["result"] and owners["course"] and owners["result"] != owners["course"]
    if fingerprint in owners["result"] | owners["course"] or is_mixed:
        for part in foreign:
            set_aside(run_dir, part)
    else:
        set_aside(run_dir)


def _end_moves(run_dir: Path) -> None:
    parent = run_dir / SUPERSEDED_FOLDER
    for part in PARTS:
        for target in sorted(parent.glob(f"*.{part}")):
            if _meet(PARTS[part], run_dir, target):  # something has been trained here since
                target.rename(target.with_suffix(""))
            else:
                _fill(run_dir, target, part)
    for source in sorted(parent.glob(f"*{COMING_BACK}")):
        if _meet(PARTS["whole"], run_dir, source):
            source.rename(source.with_suffix(""))
        else:
            _bring_back(run_dir, source)


def _meet(names: Iterable[str], one: Path, other: Path) -> bool:
    """Return whether a file is in both folders, so that none can be moved into the other."""
    return any((one / name).exists() and (other / name).exists() for name in names)


def _fill(run_dir: Path, target: Path, part: str) -> Path:
    _move(PARTS[part], run_dir, target)
    return target.rename(target.with_suffix(""))


def _bring_back(run_dir: Path, source: Path) -> None:
    _move(PARTS["whole"], source, run_dir)
    if any(source.iterdir()):  # somebody's own files
        source.rename(source.with_suffix(""))
    else:
        source.rmdir()


def _move(names: Iterable[str], source: Path, target: Path) -> None:
    moved = tuple(names)
    for name in moved:
        _keep_links(source / name, source.resolve(), moved)
        _move_one(name, source, target)


def _move_one(name: str, source: Path, target: Path) -> None:
    """Move a file or folder; ``superseded`` may be a link to another disk.

    There it is copied. A copy gets the name ``.whole`` when it is, and only then the original goes;
    a kill in between is mended by the next call.
    """
    part, whole = target / f".{name}.part", target / f".{name}.whole"
    if not _is_there(whole):
        _remove(part)
        if not _is_there(source / name):
            return
        try:
            (source / name).rename(target / name)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        _copy(source / name, part)
        part.rename(whole)
        fsync(target)
    _remove(source / name)
    whole.rename(target / name)


def _keep_links(path: Path, folder: Path, moved: Sequence[str]) -> None:
    """Let relative links lead to the same places after a move, where those do not move along.

    Args:
        path: what is moved, and all that is in it. folder: that it is moved out of, resolved.
        moved: what else is moved from there.
    """
    inside = () if path.is_symlink() else path.rglob("*")  # what a link leads to stays
    for link in filter(Path.is_symlink, (path, *inside)):
        if link.readlink().is_absolute():
            continue
        place = Path(os.path.normpath(link.parent.resolve() / link.readlink()))
        if any(place.is_relative_to(folder / name) for name in moved):
            continue
        temporary = link.with_name(f".{link.name}.link")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(place)
        temporary.replace(link)


def _is_there(path: Path) -> bool:
    """Return whether there is something, a link that leads nowhere included."""
    return os.path.lexists(path)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, a folder or a link, links as links, to be found after a power cut."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy2)
    else:
        shutil.copy2(source, target, follow_symlinks=False)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            fsync(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
