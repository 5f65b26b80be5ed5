"""Streaming reader of clip lists of every form, see ``list_formats``.

Every row is checked before any job runs; a refusal names the file, the line, the value and what
is allowed.
"""

import csv
import gzip
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from pipeline_src.datasets.classes import ClassList, load_classes
from pipeline_src.datasets.dataset import DatasetConfig, missing_list
from pipeline_src.datasets.list_formats import PARSERS, RawRow, unlisted_words
from pipeline_src.datasets.names import is_name
from pipeline_src.datasets.sources import source_problem
from pipeline_src.errors import ManifestError, did_you_mean
from pipeline_src.system.url_secrets import HIDDEN, hide_secrets

MAX_SHOWN = 10
SAVE = "save it as CSV in UTF-8"
UTF_16 = ("text in UTF-16", SAVE)
# Beginnings that no text has: an id of a video may be PK..., or PAR1....
OTHER_FORMS = {
    b"PAR1\x15": (
        "Parquet",
        "pandas.read_parquet(...).to_csv(..., index=False) makes a list of it",
    ),
    b"PK\x03\x04": ("a spreadsheet or an archive", SAVE),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet of old Excel", SAVE),
    b"\x1f\x8b": ("compressed with gzip", "its name has to end in .gz"),
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
}
LIST = re.compile(r"\[\s*(['\"]).*\1\s*\]")  # of labels, in Python or JSON


class ClipRow(NamedTuple):
    """One clip of a list: [start_seconds, end_seconds), None where the file begins or ends.

    Args:
        group: what other clips may share beside their source; a plan does not hold it.
    """

    clip_id: str
    source: str
    start_seconds: float | None
    end_seconds: float | None
    labels: tuple[int, ...]
    split: str
    line: int
    group: str = ""


def classes_of(dataset: DatasetConfig) -> ClassList:
    """Return the classes of a data set: of its class list, else of its clips.

    Raises:
        ManifestError: the class list, or the clip list, is missing or wrong.
    """
    return derive_classes(dataset) if dataset.derives_classes else load_classes(dataset)


def derive_classes(dataset: DatasetConfig) -> ClassList:
    """Return the labels of all clips, of whatever split, sorted by code point.

    Raises:
        ManifestError: a clip list is missing or its columns are wrong.
    """
    found, is_single = set[str](), True
    for _, raw in _all_rows(dataset):
        found.update(raw.labels)
        is_single = is_single and len(raw.labels) < 2
    names = tuple(sorted(filter(is_name, found)))  # the others are refused with their rows
    return ClassList(names, names, {name: index for index, name in enumerate(names)}, is_single)


def read_clips(
    dataset: DatasetConfig, *, max_seconds: float, classes: ClassList | None = None
) -> Iterator[ClipRow]:
    """Yield every clip of the data set in list order, each checked.

    Args:
        max_seconds: longest clip that may be asked for.
        classes: the data set's, where they are known.
    Raises:
        ManifestError: after the last row where one is wrong, with the first ten and their number;
            or when there is no row at all.
    """
    classes = classes or classes_of(dataset)
    problems = _Problems()
    seen: set[str] = set()
    split_of: dict[str, str] = {}
    for path, raw in _all_rows(dataset):
        try:
            row = _check_row(raw, dataset, classes, max_seconds)
            if row.clip_id in seen:
                first = _first_place(dataset, row.clip_id)
                raise ManifestError(f"clip_id {row.clip_id!r} was already listed at {first}")
            if dataset.format == "clips":  # the official lists are taken as published
                _check_split(row, split_of)
        except ManifestError as error:
            problems.add(f"{path}:{raw.line}: {error}")
            continue
        seen.add(row.clip_id)
        if not problems.count:
            yield row
    problems.refuse_any()
    if not seen:
        raise ManifestError(f"{', '.join(map(str, dataset.list_files))}: no clips at all")


class _Problems:
    """The rows that are wrong: their number, and the first of them in full."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, problem: str) -> None:
        """Count a row; keep its problem while there are few."""
        self.count += 1
        if len(self._first) < MAX_SHOWN:
            self._first.append(problem)

    def refuse_any(self) -> None:
        """Refuse the list if a row is wrong.

        Raises:
            ManifestError: names the first wrong rows.
        """
        if self.count == 1:
            raise ManifestError(self._first[0])
        if self.count:
            which = "" if self.count <= MAX_SHOWN else f", the first {MAX_SHOWN}"
            raise ManifestError(
                f"{self.count} rows are wrong{which}:\n  " + "\n  ".join(self._first)
            )


def restore_secrets(clips: Sequence[ClipRow], path: Path) -> list[ClipRow]:
    """Give planned clips the addresses of their list again: a plan holds no tokens.

    Raises:
        ManifestError: the list has changed since it was planned.
    """
    lines = {clip.line for clip in clips if HIDDEN in clip.source}
    if not lines:
        return list(clips)
    with _open_text(path) as stream:
        rows = PARSERS["clips"](path, stream, "")
        sources = {raw.line: raw.source for raw in rows if raw.line in lines}
    restored = [clip._replace(source=sources.get(clip.line, clip.source)) for clip in clips]
    for clip, planned in zip(restored, clips, strict=True):
        if hide_secrets(clip.source) != planned.source:
            raise ManifestError(
                f"{path}:{clip.line}: no longer the source that was planned; run the same command "
                "again"
            )
    return restored


def _first_place(dataset: DatasetConfig, clip_id: str) -> str:
    """Find file and line that list a clip first, by a second reading: errors are rare."""
    rows = _all_rows(dataset)
    return next(f"{path}:{raw.line}" for path, raw in rows if raw.clip_id == clip_id)


def _check_split(row: ClipRow, split_of: dict[str, str]) -> None:
    """Refuse a file whose clips stand in two splits: a test clip would have been trained on.

    Raises:
        ManifestError: names the file and both splits.
    """
    split = split_of.setdefault(row.source, row.split)
    if split != row.split:
        raise ManifestError(
            f"source {hide_secrets(row.source)!r} is in split {row.split} and in {split}; all "
            "clips of one file belong to one split"
        )


def _all_rows(dataset: DatasetConfig) -> Iterator[tuple[Path, RawRow]]:
    """Yield every clip with the file, or folder, that lists it."""
    listed: set[str] = set()
    lists = [(split, path) for split, paths in dataset.clip_lists.items() for path in paths]
    for split, path in lists:
        for raw in _read_rows(dataset, path, split):
            if dataset.format == "speech_commands":
                listed.add(raw.source)
            yield path, raw
    for folder in dataset.word_folders:
        for raw in unlisted_words(folder, listed):
            yield folder, raw


def _other_form(path: Path) -> str:
    """Return what a file is instead of a list, by its first bytes, and what to do; else empty."""
    if path.suffix == ".gz":
        return ""
    found = None
    with suppress(OSError), path.open("rb") as stream:
        head = stream.read(8)
        found = next((form for start, form in OTHER_FORMS.items() if head.startswith(start)), None)
        if b"\0" in head and found is None:  # ASCII in UTF-16, without a mark
            found = UTF_16
    return "this is {}; {}".format(*found) if found else ""


def _read_rows(dataset: DatasetConfig, path: Path, split: str) -> Iterator[RawRow]:
    parse = PARSERS[dataset.format]
    line = 0
    if form := _other_form(path):
        raise ManifestError(f"{path}: not a CSV file in UTF-8: {form}")
    try:
        with _open_text(path) as stream:
            for raw in parse(path, stream, split):
                line = raw.line
                yield raw
    except FileNotFoundError:
        raise ManifestError(missing_list(dataset, path)) from None
    except UnicodeDecodeError as error:  # the stream reads ahead of its lines
        where = f"{path}:{_undecodable_line(path)}"
        raise ManifestError(f"{where}: not a CSV file in UTF-8: {error.reason}; {SAVE}") from error
    except (csv.Error, EOFError, OSError) as error:
        raise ManifestError(
            f"{path}:{line + 1}: not a readable CSV file in UTF-8: {error}"
        ) from error


def _undecodable_line(path: Path) -> int:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _check_row(
    raw: RawRow, dataset: DatasetConfig, classes: ClassList, max_seconds: float
) -> ClipRow:
    for column, text in (("clip_id", raw.clip_id), ("source", raw.source)):
        if not text.strip() or not is_name(text):
            raise ManifestError(f"{column} {text!r} is empty or holds control characters")
    if raw.group and not is_name(raw.group):
        raise ManifestError(f"group {raw.group!r} holds control characters")
    if problem := source_problem(raw.source):
        raise ManifestError(f"source {hide_secrets(raw.source)!r}: {problem}")
    if raw.split not in dataset.splits:
        allowed = ", ".join(dataset.splits)
        long = next((one for one in dataset.splits if raw.split.lower().startswith(one)), "")
        near = f"; did you mean {long!r}?" if long else did_you_mean(raw.split, dataset.splits)
        raise ManifestError(f"split {raw.split!r} is not one of {allowed}{near}")
    start, end = _check_times(raw, max_seconds)
    labels = _check_labels(raw, dataset, classes)
    return ClipRow(raw.clip_id, raw.source, start, end, labels, raw.split, raw.line, raw.group)


def _check_times(raw: RawRow, max_seconds: float) -> tuple[float | None, float | None]:
    start = _seconds("start_seconds", raw.start)
    end = _seconds("end_seconds", raw.end)
    if end is not None:
        if (start or 0.0) >= end:
            raise ManifestError(f"start_seconds {raw.start!r} is not below end_seconds {raw.end!r}")
        if end - (start or 0.0) > max_seconds:
            raise ManifestError(
                f"clip of {end - (start or 0.0):g} s is longer than "
                f"media.max_seconds={max_seconds:g}"
            )
    return start, end


def _seconds(column: str, text: str) -> float | None:
    if not text.strip():
        return None
    value = math.nan
    if text.isascii() and "_" not in text:  # else 1_0 would be ten
        with suppress(ValueError):
            value = float(text)
    if not 0 <= value < math.inf:
        raise ManifestError(f"{column} {text!r} is not a number of seconds >= 0")
    return value


def _check_labels(raw: RawRow, dataset: DatasetConfig, classes: ClassList) -> tuple[int, ...]:
    try:
        labels = tuple(sorted({classes.index[label] for label in raw.labels}))
    except KeyError as unknown:
        if dataset.derives_classes:
            raise ManifestError(f"label {unknown} holds control characters") from None
        label = unknown.args[0]
        near = _joined_labels(label, classes) or did_you_mean(label, classes.index)
        raise ManifestError(f"label {unknown} is not in {dataset.class_names}{near}") from None
    if dataset.derives_classes and (written := next(filter(LIST.fullmatch, raw.labels), "")):
        raise ManifestError(
            f"label {written!r} is a list as programs write it: give the labels themselves, "
            "separated by ';'"
        )
    if dataset.derives_classes and dataset.task == "multilabel":
        for label in raw.labels:
            if joined := _joined_labels(label, classes):
                raise ManifestError(
                    f"label {label!r}{joined}; a class that is called so needs a list of classes "
                    "(class_names)"
                )
    if not labels:
        raise ManifestError(f"clip {raw.clip_id!r} has no label")
    if dataset.task == "multiclass" and len(labels) > 1:
        raise ManifestError(
            f"{len(labels)} labels {raw.labels}, but task is multiclass (one each); several per "
            "clip are task: multilabel, and no name may hold the ';' between them"
        )
    return labels


def _joined_labels(label: str, classes: ClassList) -> str:
    """Return what to say of a label that is several others behind another separator, else ""."""
    parts = [part.strip() for part in re.split(r"[,|]", label)]
    known = [part in classes.index for part in parts]
    # Where no clip has two labels, nobody has separated any as they have to be.
    if len(parts) < 2 or not (all(known) or (classes.is_single and any(known))):
        return ""
    listed = ", ".join(map(repr, parts))
    return f": it looks like the labels {listed}: separate a clip's labels by ';'"
