"""Rows of results as CSV or JSON lines; a file that was begun is continued.

Every row says which input it is of, which of how many windows, and what made it. All rows of an
input are written together, and those of one that was cut short by a kill are made again. So are
those of one that was refused for a reason that may have passed: they stay until better ones are
there.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pipeline_src.errors import ConfigError, StageError, is_disk_full
from pipeline_src.manifest.ledger import TRANSIENT_REASONS, one_line
from pipeline_src.system.atomic import atomic_path
from pipeline_src.system.lock import hold_file

SUFFIXES = (".csv", ".jsonl")
MADE_BY = "made_by"
KEYS = ("source", "window", "num_windows", "reason", MADE_BY)
ADVICE = "delete it, or name another output"


class ResultTable:
    """A table on disk.

    Args:
        path: ends in .csv or .jsonl; None = JSON lines to standard output.
        columns: of a CSV file, in order.
        made_by: hash of the weights and settings that the rows come from.
    Raises:
        ConfigError: another ending, or a file that other weights or settings made.
    """

    def __init__(self, path: Path | None, columns: Sequence[str], made_by: str) -> None:
        if path is not None and path.suffix not in SUFFIXES:
            raise ConfigError(f"{path}: ends in {path.suffix or 'nothing'}; allowed: .csv, .jsonl")
        self._path = path
        self._columns = [*columns, MADE_BY]
        self._made_by = made_by
        self._is_csv = path is not None and path.suffix == ".csv"
        # Inputs as ``plain_text``, with the reason where all of one was refused.
        self.done: dict[str, str] = {}
        # Inputs that are asked again -> ends of their lines, and how many are no refusals.
        self._again: dict[str, tuple[list[int], int]] = {}
        self._replaced: set[int] = set()  # ends of lines that later ones stand for
        self._stream: BinaryIO | None = None

    def __enter__(self) -> "ResultTable":
        if self._path is None:
            return self
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as on_error:
            self._stream = on_error.enter_context(self._open())
            size = self._keep_whole()
            self._stream.truncate(size)
            if self._is_csv and not size:
                self._write([self._columns])
            on_error.pop_all()
        return self

    def _open(self) -> BinaryIO:
        """Open and lock the table; again where another process has just written it anew."""
        assert self._path is not None
        while True:
            try:
                stream = self._path.open("ab")
            except IsADirectoryError:
                raise ConfigError(f"{self._path} is a folder; name a file") from None
            hold_file(stream, f"{self._path}: another process writes it; wait for it")
            with suppress(FileNotFoundError):
                if os.path.samestat(self._path.stat(), os.fstat(stream.fileno())):
                    return stream
            stream.close()

    def __exit__(self, *_: object) -> None:
        if self._replaced:
            self._drop_replaced()
        if self._stream:
            self._stream.close()

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append all rows of one input; the earlier ones stay unless these are better."""
        ends, num_good = self._again.pop(plain_text(rows[0]["source"]), ([], 0))
        num_good_now = sum(not row["reason"] for row in rows)
        is_refused_again = any(row["reason"] in TRANSIENT_REASONS for row in rows)
        is_no_better = num_good_now == num_good and is_refused_again
        if ends and (num_good_now < num_good or is_no_better):  # e.g. of a disk that is away
            return
        self._write_rows(rows)
        self._replaced.update(ends)

    def _write_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        made = [
            {
                **row,
                "source": plain_text(row["source"]),
                "detail": one_line(row["detail"]),
                MADE_BY: self._made_by,
            }
            for row in rows
        ]
        if self._is_csv:
            self._write([[row.get(name, "") for name in self._columns] for row in made])
            return
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in made)
        if self._stream is None:
            print(text, end="", flush=True)
        else:
            self._append(text)

    def _write(self, rows: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._append(text.getvalue())

    def _append(self, text: str) -> None:
        assert self._stream is not None
        with self._disk_full_said():
            self._stream.write(text.encode())
            self._stream.flush()

    @contextmanager
    def _disk_full_said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise StageError(
                f"disk full: {self._path} could not be written; free space and run the same "
                "command again"
            ) from error

    def _keep_whole(self) -> int:
        """Note what is done and what is asked again; count bytes to the last whole input."""
        whole = 0
        source, reasons, num_good = "", set[str](), 0
        ends: list[int] = []  # of the lines of one input
        for end, row in self._lines():
            if row is None:  # the header
                whole = end
                continue
            name = plain_text(row["source"])  # older tables have such bytes in JSON's own form
            if name != source or int(row["window"]) == 0:
                source, reasons, ends, num_good = name, set(), [], 0
            num_good += not row["reason"]
            ends.append(end)
            reasons.add(row["reason"])
            if len(ends) == int(row["num_windows"]):
                whole = end
                self._replaced.update(self._again.pop(source, ([], 0))[0])  # a kill left both
                if _may_have_passed(source, reasons):
                    self._again[source] = ends, num_good
                else:
                    self.done[source] = "" if "" in reasons else min(reasons)
        return whole

    def _drop_replaced(self) -> None:
        """Write the table anew without the lines that later ones stand for."""
        assert self._path is not None
        path = self._path.resolve()  # a link stays one
        with (
            self._disk_full_said(),
            atomic_path(path) as temporary,
            path.open("rb") as old,
            temporary.open("wb") as new,
        ):
            end = 0
            for line in old:
                end += len(line)
                if end not in self._replaced:
                    new.write(line)
            shutil.copymode(path, temporary)

    def _lines(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yield where each whole line ends, and its row; None for the header."""
        assert self._path is not None
        end = 0
        columns: list[str] = []
        with self._path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                if self._is_csv and not columns:
                    columns = self._header(line)
                    yield end, None
                    continue
                yield end, self._parse(line, columns)

    def _header(self, line: bytes) -> list[str]:
        try:
            (columns,) = csv.reader([line.decode()])
        except (ValueError, csv.Error):  # no UTF-8, or nothing in it
            columns = []
        if columns != self._columns:
            raise ConfigError(f"{self._path}: holds other columns than this command; {ADVICE}")
        return columns

    def _parse(self, line: bytes, columns: Sequence[str]) -> dict[str, Any]:
        try:
            if self._is_csv:
                (values,) = csv.reader([line.decode()])
                row = dict(zip(columns, values, strict=True))
            else:
                row = json.loads(line)
            made_by = {key: row[key] for key in KEYS}[MADE_BY]
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise ConfigError(
                f"{self._path}: no results of this command ({error}); {ADVICE}"
            ) from None
        if made_by != self._made_by:
            raise ConfigError(
                f"{self._path}: was made by another checkpoint or with other settings; {ADVICE}"
            )
        return row


def plain_text(name: str) -> str:
    """Return a name as text files can hold it: bytes that are no UTF-8 are written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def _may_have_passed(source: str, reasons: Set[str]) -> bool:
    """Return whether what an input was refused for may be over; a file may be there by now."""
    # Path.is_file raises for a name that no file can have.
    is_there_now = "unavailable" in reasons and os.path.isfile(source)  # noqa: PTH113
    return is_there_now or not reasons.isdisjoint(TRANSIENT_REASONS)
