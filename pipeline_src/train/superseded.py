"""Trainings of other configurations in a run's folder: set aside, and brought back when wanted.

A training is several files, which move together: published beside the log of another one, weights
would get its curve. A move that was cut short is ended by the next start, before it looks at
anything.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from pipeline_src.runs.history import HISTORY_FILE, METRICS_LOG_FILE, VALIDATION_FILE
from pipeline_src.runs.spec import (
    CHECKPOINTS_FOLDER,
    DONE_FILE,
    LOGGERS_FILE,
    PUBLISHED_FOLDER,
    SUPERSEDED_FOLDER,
    is_trained,
    saved_progress,
    saved_states,
    superseded_folders,
)

logger = logging.getLogger(__name__)
RESULT = (PUBLISHED_FOLDER, DONE_FILE)
COURSE = (
    *(CHECKPOINTS_FOLDER, HISTORY_FILE, VALIDATION_FILE, "tensorboard", METRICS_LOG_FILE),
    LOGGERS_FILE,
)
# What is set aside at a time; the name is the ending of its folder until all of it is there.
PARTS = {"whole": (*COURSE, *RESULT), "result": RESULT, "course": COURSE}
COMING_BACK = ".back"


def recall(run_dir: Path, fingerprint: str) -> None:
    """Set other configurations' trainings aside, and bring back this one's if it was set aside."""
    _end_moves(run_dir)
    if part := _foreign_part(run_dir, fingerprint):
        set_aside(run_dir, part)
    if saved_progress(run_dir, fingerprint)[0]:
        return
    kept = [one for one in superseded_folders(run_dir) if saved_progress(one, fingerprint)[0]]
    if not kept:
        return
    best = max(
        kept, key=lambda one: (is_trained(one, fingerprint), saved_progress(one, fingerprint), one)
    )
    _bring_back(run_dir, best.rename(best.with_suffix(COMING_BACK)))
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


def _foreign_part(run_dir: Path, fingerprint: str) -> str:
    """Return which part here is another configuration's; empty = none.

    Version 0.1 let a training run beside what an earlier one had published.
    """
    own, foreign = set[str](), set[str]()
    for folder, state in saved_states(run_dir):
        part = "result" if folder.name == PUBLISHED_FOLDER else "course"
        (own if state["fingerprint"] == fingerprint else foreign).add(part)
    return min(foreign - own, default="") if own else "whole"


def _end_moves(run_dir: Path) -> None:
    parent = run_dir / SUPERSEDED_FOLDER
    for part in PARTS:
        for target in sorted(parent.glob(f"*.{part}")):
            _fill(run_dir, target, part)
    for source in sorted(parent.glob(f"*{COMING_BACK}")):
        _bring_back(run_dir, source)


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
    for name in names:
        if (source / name).exists():
            (source / name).rename(target / name)
