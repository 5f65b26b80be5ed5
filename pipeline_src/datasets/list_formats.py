"""Forms of clip lists: our own CSV, and official lists as published.

AudioSet, VGGSound, ESC-50 (Piczak, ACM MM 2015) and Speech Commands (arXiv:1804.03209). A parser
turns the lines of one file into rows of text; ``clip_lists`` checks them.
"""

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline_src.datasets.dataset import FOLD_PREFIX
from pipeline_src.errors import ManifestError
from pipeline_src.system.url_secrets import hide_secrets

COLUMNS = ("clip_id", "source", "start_seconds", "end_seconds", "labels", "split")
GROUP_COLUMN = "group"  # may be missing
ESC50_COLUMNS = ("filename", "fold", "category")
ESC50_GROUP = "src_file"  # the recording on freesound that a clip is cut from
AUDIOSET_FIELDS = 4
VGGSOUND_FIELDS = 4
VGGSOUND_CLIP_SECONDS = 10
WAV = ".wav"
MAX_LINE_CHARS = 1_000_000  # of a list that is none
TAKE_OF = "_nohash_"  # Speech Commands: <speaker>_nohash_<number>.wav


class RawRow(NamedTuple):
    """The same clip as text, before any check.

    Args:
        group: what other clips may share, such as a speaker; empty where none is named.
    """

    line: int
    clip_id: str
    source: str
    start: str
    end: str
    labels: list[str]
    split: str
    group: str = ""


def _parse_clips(path: Path, stream: Iterable[str], split: str) -> Iterator[RawRow]:
    del split  # the rows name it
    reader = csv.reader(stream)
    header = next(reader, [])
    clip_id, source, start, end, labels, split_at = _columns(path, header, COLUMNS)
    group_at = _optional_column(path, header, GROUP_COLUMN)
    for row in reader:
        if not any(field.strip() for field in row):  # spreadsheets write rows of bare commas
            continue
        _check_width(path, reader.line_num, row, len(header))
        names = [label.strip() for label in row[labels].split(";") if label.strip()]
        yield RawRow(
            reader.line_num,
            row[clip_id],
            row[source],
            row[start],
            row[end],
            names,
            row[split_at],
            "" if group_at is None else row[group_at].strip(),
        )


def _parse_audioset(path: Path, stream: Iterable[str], split: str) -> Iterator[RawRow]:
    reader = csv.reader(stream, skipinitialspace=True)
    for row in reader:
        if not row or row[0].startswith("#"):
            continue
        _check_width(path, reader.line_num, row, AUDIOSET_FIELDS)
        youtube_id, start, end, labels = row
        names = [label.strip() for label in labels.split(",") if label.strip()]
        yield RawRow(reader.line_num, youtube_id, f"youtube:{youtube_id}", start, end, names, split)


def _parse_vggsound(path: Path, stream: Iterable[str], split: str) -> Iterator[RawRow]:
    del split  # the rows name it
    reader = csv.reader(stream)
    for row in reader:
        if not row:
            continue
        _check_width(path, reader.line_num, row, VGGSOUND_FIELDS)
        youtube_id, start, label, row_split = row
        if not start.isdecimal():
            raise ManifestError(
                f"{path}:{reader.line_num}: start {start!r} is not a whole number of seconds"
            )
        clip_id = f"{youtube_id}_{int(start):06d}" if youtube_id else ""
        end = str(int(start) + VGGSOUND_CLIP_SECONDS)
        yield RawRow(
            reader.line_num, clip_id, f"youtube:{youtube_id}", start, end, [label], row_split
        )


def _parse_esc50(path: Path, stream: Iterable[str], split: str) -> Iterator[RawRow]:
    del split  # the rows name their fold
    reader = csv.reader(stream)
    header = next(reader, [])
    filename, fold, category = _columns(path, header, ESC50_COLUMNS)
    group_at = _optional_column(path, header, ESC50_GROUP)
    for row in reader:
        if not row:
            continue
        _check_width(path, reader.line_num, row, len(header))
        yield RawRow(
            reader.line_num,
            row[filename].removesuffix(WAV),
            f"audio/{row[filename]}",
            "",
            "",
            [row[category]],
            f"{FOLD_PREFIX}{row[fold]}",
            "" if group_at is None else row[group_at],
        )


def _parse_words(path: Path, stream: Iterable[str], split: str) -> Iterator[RawRow]:
    for line, text in enumerate(stream, start=1):
        word, slash, name = text.strip().partition("/")
        if not text.strip():
            continue
        if not slash or not name.endswith(WAV):
            raise ManifestError(f"{path}:{line}: {text.strip()!r} is not of the form word/file.wav")
        yield _word_row(line, word, name, split)


def unlisted_words(folder: Path, listed: Collection[str]) -> Iterator[RawRow]:
    """Yield the training clips of Speech Commands: those of one word in neither list.

    Args:
        listed: sources of the clips in the lists.
    """
    names = sorted(path.name for path in folder.iterdir() if path.suffix == WAV)
    for number, name in enumerate(names, start=1):
        if f"{folder.name}/{name}" not in listed:
            yield _word_row(number, folder.name, name, "train")


def _word_row(line: int, word: str, name: str, split: str) -> RawRow:
    clip_id = f"{word}/{name.removesuffix(WAV)}"
    speaker, named, _ = name.partition(TAKE_OF)
    group = speaker if named else ""
    return RawRow(line, clip_id, f"{word}/{name}", "", "", [word], split, group)


PARSERS: dict[str, Callable[[Path, Iterable[str], str], Iterator[RawRow]]] = {
    "clips": _parse_clips,
    "audioset": _parse_audioset,
    "vggsound": _parse_vggsound,
    "esc50": _parse_esc50,
    "speech_commands": _parse_words,
}


def _columns(path: Path, header: list[str], wanted: Iterable[str]) -> list[int]:
    """Return the positions of the wanted columns.

    Raises:
        ManifestError: one of them is not there, or twice.
    """
    for column in wanted:
        if header.count(column) != 1:
            near = next((name for name in header if name.strip().lower() == column), "")
            hint = f"; {near!r} is written {column!r}" if near and near != column else ""
            if len(header) == 1:
                hint = "; fields are separated by commas"
            if how := _json_reader(path, header):
                hint = f"; this is JSON, a list is CSV: {how} reads it, to_csv writes one"
            raise ManifestError(
                f"{path}:1: column {column!r} must be there once; found {header}{hint}"
            )
    return [header.index(column) for column in wanted]


def _json_reader(path: Path, header: list[str]) -> str:
    """Return what reads a file that begins like JSON, or like JSON lines; "" where it does not."""
    start = header[0].replace(" ", "") if header else ""
    if not start.startswith("{") and start != "[" and not start.startswith("[{"):
        return ""
    first = None
    with suppress(OSError, ValueError, RecursionError), path.open(encoding="utf-8-sig") as stream:
        first = json.loads(stream.readline(MAX_LINE_CHARS))
    is_row = isinstance(first, dict) and (
        any(isinstance(first.get(column), str) for column in COLUMNS)
        or not any(isinstance(value, dict | list) for value in first.values())
    )
    return "pandas.read_json(..., lines=True)" if is_row else "pandas.read_json(...)"


def _optional_column(path: Path, header: list[str], column: str) -> int | None:
    return _columns(path, header, [column])[0] if column in header else None


def _check_width(path: Path, line: int, row: list[str], expected: int) -> None:
    if len(row) != expected:
        shown = hide_secrets(str(row))
        raise ManifestError(f"{path}:{line}: {len(row)} fields, expected {expected}: {shown}")
