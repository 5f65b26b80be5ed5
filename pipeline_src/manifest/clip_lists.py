"""Streaming reader of clip lists of every form, see ``list_formats``.

Every row is checked before any job runs; a refusal names the file, the line, the value and what
is allowed.
"""

import csv
import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from pipeline_src.errors import ManifestError
from pipeline_src.manifest.datasets import (
    ClassList,
    DatasetConfig,
    load_classes,
    missing_list,
)
from pipeline_src.manifest.list_formats import PARSERS, RawRow, unlisted_words


class ClipRow(NamedTuple):
    """One clip of a list: [start_seconds, end_seconds), None where the file begins or ends."""

    clip_id: str
    source: str
    start_seconds: float | None
    end_seconds: float | None
    labels: tuple[int, ...]
    split: str
    line: int


def read_clips(dataset: DatasetConfig, *, max_seconds: float) -> Iterator[ClipRow]:
    """Yield every clip of the data set in list order, each checked.

    Args:
        max_seconds: longest clip that may be asked for.
    Raises:
        ManifestError: at the first row that is wrong, or when there is no row at all.
    """
    classes = load_classes(dataset)
    first_line_of: dict[str, str] = {}
    split_of: dict[str, str] = {}
    for where, raw in _all_rows(dataset):
        row = _check_row(raw, dataset, classes, max_seconds, where)
        first = first_line_of.setdefault(row.clip_id, where)
        if first is not where:
            raise ManifestError(f"{where}: clip_id {row.clip_id!r} was already listed at {first}")
        if dataset.format == "clips":  # the official lists are taken as published
            _check_split(row, split_of, where)
        yield row
    if not first_line_of:
        raise ManifestError(f"{', '.join(map(str, dataset.list_files))}: no clips at all")


def _check_split(row: ClipRow, split_of: dict[str, str], where: str) -> None:
    """Refuse a file whose clips stand in two splits: a test clip would have been trained on."""
    split = split_of.setdefault(row.source, row.split)
    if split != row.split:
        raise ManifestError(
            f"{where}: source {row.source!r} is in split {row.split} and in {split}; all clips of "
            "one file belong to one split"
        )


def _all_rows(dataset: DatasetConfig) -> Iterator[tuple[str, RawRow]]:
    """Every clip with the place that it stands at."""
    listed: set[str] = set()
    lists = [(split, path) for split, paths in dataset.clip_lists.items() for path in paths]
    for split, path in lists:
        for raw in _read_rows(dataset, path, split):
            if dataset.word_folders:
                listed.add(raw.source)
            yield f"{path}:{raw.line}", raw
    for folder in dataset.word_folders:
        for raw in unlisted_words(folder, listed):
            yield f"{folder}:{raw.line}", raw


def _read_rows(dataset: DatasetConfig, path: Path, split: str) -> Iterator[RawRow]:
    parse = PARSERS[dataset.format]
    line = 0
    try:
        with _open_text(path) as stream:
            for raw in parse(path, stream, split):
                line = raw.line
                yield raw
    except FileNotFoundError:
        raise ManifestError(missing_list(dataset, path)) from None
    except (csv.Error, UnicodeDecodeError, EOFError, OSError) as error:
        raise ManifestError(
            f"{path}:{line + 1}: not a readable CSV file in UTF-8: {error}"
        ) from error


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _check_row(
    raw: RawRow, dataset: DatasetConfig, classes: ClassList, max_seconds: float, where: str
) -> ClipRow:
    for column, text in (("clip_id", raw.clip_id), ("source", raw.source)):
        if not text.strip() or not text.isprintable():
            raise ManifestError(f"{where}: {column} {text!r} is empty or holds control characters")
    if raw.split not in dataset.splits:
        allowed = ", ".join(dataset.splits)
        raise ManifestError(f"{where}: split {raw.split!r} is not one of {allowed}")
    start, end = _check_times(raw, max_seconds, where)
    labels = _check_labels(raw, dataset, classes, where)
    return ClipRow(raw.clip_id, raw.source, start, end, labels, raw.split, raw.line)


def _check_times(raw: RawRow, max_seconds: float, where: str) -> tuple[float | None, float | None]:
    start = _seconds("start_seconds", raw.start, where)
    end = _seconds("end_seconds", raw.end, where)
    if end is not None:
        if (start or 0.0) >= end:
            raise ManifestError(
                f"{where}: start_seconds {raw.start!r} is not below end_seconds {raw.end!r}"
            )
        if end - (start or 0.0) > max_seconds:
            raise ManifestError(
                f"{where}: clip of {end - (start or 0.0):g} s is longer than "
                f"media.max_seconds={max_seconds:g}"
            )
    return start, end


def _seconds(column: str, text: str, where: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ManifestError(f"{where}: {column} {text!r} is not a number of seconds >= 0")
    return value


def _check_labels(
    raw: RawRow, dataset: DatasetConfig, classes: ClassList, where: str
) -> tuple[int, ...]:
    for label in raw.labels:
        if label not in classes.index:
            raise ManifestError(f"{where}: label {label!r} is not in {dataset.class_names}")
    labels = tuple(sorted({classes.index[label] for label in raw.labels}))
    if not labels:
        raise ManifestError(f"{where}: clip {raw.clip_id!r} has no label")
    if dataset.task == "multiclass" and len(labels) > 1:
        raise ManifestError(
            f"{where}: {len(labels)} labels {raw.labels}, but task is multiclass (one each)"
        )
    return labels
