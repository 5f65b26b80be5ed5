"""A table as a CSV file inside the page."""

import base64
import csv
import io
import re
from collections.abc import Iterator, Sequence

from pipeline_src.report.blocks import MISSING, Cell, Table

FORMULA = re.compile(r"[=+\-@\t\r]")  # at its start a spreadsheet would compute a name
THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+")
EMPTY = Cell("")


def csv_uri(table: Table) -> str:
    """Return the file as a data URI."""
    content = base64.b64encode(table_csv(table).encode()).decode("ascii")
    return f"data:text/csv;charset=utf-8;base64,{content}"


def table_csv(table: Table) -> str:
    """Write one record a row: cells over several rows are repeated, intervals have columns."""
    rows = list(_full_rows(table))
    columns = list(zip(*rows, strict=True)) or [()] * len(table.head)
    suffixes = [_suffixes(cells) for cells in columns]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        f"{name}{suffix}".strip(": ")
        for name, parts in zip(table.head, suffixes, strict=True)
        for suffix in parts
    )
    for row in rows:
        cells = zip(row, suffixes, strict=True)
        writer.writerow(text for cell, parts in cells for text in _texts(cell, len(parts)))
    return stream.getvalue()


def _full_rows(table: Table) -> Iterator[list[Cell]]:
    """Yield rows as long as the head, with what stands in them from rows above."""
    above: dict[int, tuple[int, Cell]] = {}  # column: rows that it still reaches into
    for row in table.rows:
        given = iter(row)
        full = []
        for column in range(len(table.head)):
            rest, cell = above.pop(column, (0, EMPTY))
            if not rest:
                cell = next(given, EMPTY)
                rest = cell.rowspan
            if rest > 1:
                above[column] = (rest - 1, cell)
            full.append(cell)
        yield full


def _suffixes(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Name the columns that a column of cells becomes."""
    if any(cell.values for cell in cells):
        return "", ": low", ": high"
    return ("", ": note") if any(cell.sub for cell in cells) else ("",)


def _texts(cell: Cell, count: int) -> list[str]:
    if cell.values:
        return ["" if value is None else f"{value:.6g}" for value in cell.values]
    text = "" if cell.text == MISSING else cell.text
    text = text.replace(",", "") if THOUSANDS.fullmatch(text) else text
    text = f"'{text}" if FORMULA.match(text) and not cell.is_number else text
    return [text, cell.sub, ""][:count] if count == 2 else [text, "", ""][:count]
