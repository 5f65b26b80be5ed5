"""Cut a clip list into chunks, the units of work; done when the Snakefile is parsed.

A job per clip would make a graph of millions of jobs, which takes Snakemake hours; how many chunks
there are must be known before the first job.
"""

import csv
import io
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_src import versions
from pipeline_src.datasets.classes import format_classes
from pipeline_src.datasets.clip_groups import (
    GROUPS_FOLDER,
    Groups,
    hash_groups,
    note_groups,
    write_groups,
)
from pipeline_src.datasets.clip_lists import ClipRow, classes_of, read_clips
from pipeline_src.datasets.dataset import DatasetConfig, missing_list
from pipeline_src.errors import ManifestError
from pipeline_src.system.atomic import file_sha256, write_files, write_json, write_text
from pipeline_src.system.url_secrets import HIDDEN, hide_secrets

logger = logging.getLogger(__name__)
STATE_FILE = "plan.json"
CLASSES_FILE = "classes.csv"  # beside the plan, of a data set that names no class list
PLAN_COLUMNS = ("clip_id", "source", "start_seconds", "end_seconds", "labels", "line")
MAX_ALIKE = 5  # classes of one name that are named


def ensure_plan(
    dataset: DatasetConfig,
    *,
    chunk_size: int,
    max_seconds: float,
    folder: Path,
    before_write: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Bring ``folder/<split>/<chunk>.csv`` up to date and return the number of chunks per split.

    The list is read and checked only when it is not the one that was planned last; chunks whose
    clips are the same keep their file untouched, so that only changed chunks are made again. The
    classes of a data set that names no class list are written to classes.csv beside ``folder``, and
    the groups of clips to groups/<split>.csv, where the list names some.

    Args:
        max_seconds: longest clip that the list may ask for.
        before_write: may refuse to change a plan that a running workflow works on.
    Raises:
        ManifestError: a list is missing or wrong.
    """
    state_path = folder / STATE_FILE
    key = _list_key(dataset, chunk_size=chunk_size, max_seconds=max_seconds)
    known = _read_state(state_path)
    class_list = folder.with_name(CLASSES_FILE) if dataset.derives_classes else None
    groups_folder, groups = folder.with_name(GROUPS_FOLDER), Groups()
    if known is None or known["list"] != key or not _is_written(class_list, groups_folder, known):
        classes = classes_of(dataset)
        clips = note_groups(read_clips(dataset, max_seconds=max_seconds, classes=classes), groups)
        chunks = _format_chunks(clips, dataset.splits, chunk_size)  # refuse before writing
        before_write()
        _write_plan(chunks, folder)
        write_groups(groups_folder, groups)
        counts = {split: len(texts) for split, texts in chunks.items()}
        known = {"list": key, "num_chunks": counts, "groups": hash_groups(groups_folder)}
        if class_list:
            _warn_of_alike(dataset, classes.names)
            _write_classes(class_list, format_classes(classes))
            known["classes_sha256"] = file_sha256(class_list)
        write_json(state_path, known)
    return known["num_chunks"]


def clips_per_class(folder: Path, split: str) -> Counter[int]:
    """Count the clips of a split in the plan below ``folder``, each for its first label."""
    chunks = (folder / split).glob("*.csv")
    return Counter(clip.labels[0] for path in chunks for clip in read_plan_chunk(path, split))


def _read_state(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _is_written(class_list: Path | None, groups_folder: Path, known: Mapping[str, Any]) -> bool:
    """Return whether the classes and groups are those that were written with the plan."""
    if hash_groups(groups_folder) != known.get("groups"):
        return False
    if class_list is None:
        return True
    return class_list.is_file() and file_sha256(class_list) == known.get("classes_sha256")


def _write_classes(path: Path, text: str) -> None:
    """Write a class list that differs from what is there: an index is as old as its classes."""
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def _warn_of_alike(dataset: DatasetConfig, names: Iterable[str]) -> None:
    """Warn of classes whose names are one to a reader: each spelling gets a part of the clips."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
    alike = [", ".join(map(repr, those)) for those in spellings.values() if len(those) > 1]
    if alike:
        logger.warning(
            "data set %s: classes that differ in the case or coding of letters alone: %s; if they "
            "are one, write them alike in the list",
            dataset.name,
            "; ".join(alike[:MAX_ALIKE]) + (" ..." if len(alike) > MAX_ALIKE else ""),
        )


def _list_key(dataset: DatasetConfig, *, chunk_size: int, max_seconds: float) -> list:
    """Return as JSON what makes a list current: sizes and times stand for contents.

    Raises:
        ManifestError: a file of the list is missing.
    """
    named = [] if dataset.derives_classes else [dataset.class_names]
    files = [*dataset.list_files, *named, *dataset.word_folders]
    stamps = []
    for path in files:
        try:
            status = path.stat()
        except FileNotFoundError:
            raise ManifestError(missing_list(dataset, path)) from None
        stamps.append([str(path.absolute()), status.st_size, status.st_mtime_ns])
    limits = [versions.PLAN, chunk_size, max_seconds]
    splits = [split for split, paths in dataset.clip_lists.items() for _ in paths]
    return [*limits, dataset.format, dataset.task, splits, dataset.folds, stamps]


def _format_chunks(
    clips: Iterable[ClipRow], splits: Sequence[str], chunk_size: int
) -> dict[str, list[bytes]]:
    """Yield the chunks of every split that has clips as CSV: a tenth of the rows' memory."""
    pending: dict[str, list[ClipRow]] = {split: [] for split in splits}
    chunks: dict[str, list[bytes]] = {split: [] for split in splits}
    for clip in clips:
        rows = pending[clip.split]
        rows.append(clip)
        if len(rows) == chunk_size:
            chunks[clip.split].append(_format_chunk(rows))
            rows.clear()
    for split, rows in pending.items():
        if rows:
            chunks[split].append(_format_chunk(rows))
    return {split: texts for split, texts in chunks.items() if texts}


def _write_plan(chunks: Mapping[str, Sequence[bytes]], folder: Path) -> None:
    """Write the chunks that differ from what is there; remove those that a longer list left."""
    planned = {
        folder / split / f"{number:05d}.csv": text
        for split, texts in chunks.items()
        for number, text in enumerate(texts)
    }
    for path in set(folder.glob("*/[0-9][0-9][0-9][0-9][0-9].csv")) - set(planned):
        path.unlink(missing_ok=True)  # another dry run may have been faster
    # An unchanged file keeps its time, so that its chunk is not made again downstream.
    is_current = {path: _is_planned(path, text) for path, text in planned.items()}
    write_files({path: text for path, text in planned.items() if not is_current[path]})


def _is_planned(path: Path, text: bytes) -> bool:
    """Return whether a chunk is as planned: the same clips, on whatever lines of their list.

    The line decides only where the address is to be looked up in it: see ``restore_secrets``.
    """
    if not path.is_file():
        return False
    there = path.read_bytes()
    if there == text or HIDDEN.encode() in there:
        return there == text
    return _without_lines(there) == _without_lines(text)


def _without_lines(text: bytes) -> list[bytes]:
    return [line.rpartition(b",")[0] for line in text.splitlines()]


def planned_clips(path: Path) -> bytes:
    """Return what of a chunk's file decides what is made of it: without the lines of the list."""
    text = path.read_bytes()
    return text if HIDDEN.encode() in text else b"\n".join(_without_lines(text))


def _format_chunk(rows: Iterable[ClipRow]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PLAN_COLUMNS)
    writer.writerows(
        (
            row.clip_id,
            hide_secrets(row.source),  # else tokens would spread over caches: restore_secrets
            row.start_seconds,  # None is written as nothing, a float as its repr
            row.end_seconds,
            ";".join(map(str, row.labels)),
            row.line,
        )
        for row in rows
    )
    return text.getvalue().encode()


def read_plan_chunk(path: Path, split: str) -> list[ClipRow]:
    """Read one chunk of the plan back.

    Raises:
        ManifestError: it has other columns.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != PLAN_COLUMNS:
            raise ManifestError(f"{path}: columns {reader.fieldnames}, expected {PLAN_COLUMNS}")
        return [
            ClipRow(
                row["clip_id"],
                row["source"],
                float(row["start_seconds"]) if row["start_seconds"] else None,
                float(row["end_seconds"]) if row["end_seconds"] else None,
                tuple(int(label) for label in row["labels"].split(";")),
                split,
                int(row["line"]),
            )
            for row in reader
        ]
