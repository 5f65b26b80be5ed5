"""The class list of a data set: what the outputs of a network mean."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from pipeline_src.datasets.dataset import DatasetConfig, missing_list
from pipeline_src.errors import ManifestError

ID_COLUMNS = ("id", "mid")


@dataclass(frozen=True)
class ClassList:
    """Classes in index order, and the index of every id and display name.

    ``is_single``: they were derived from clips of one label each.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    index: dict[str, int]
    is_single: bool = False


def load_classes(dataset: DatasetConfig, path: Path | None = None) -> ClassList:
    """Read the class list: columns index, id (or mid), display_name; indices 0, 1, 2, ... in order.

    Args:
        path: where it lies; None = where the data set says.
    Raises:
        ManifestError: missing file or column, a gap in the indices, a name that means two classes.
    """
    path = path or dataset.class_names
    if dataset.is_packed:
        raise ManifestError(
            f"data set {dataset.name}: the classes of packed shards stand in their index alone; "
            "name the YAML file that they were packed from"
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return _parse_classes(path, csv.DictReader(stream, skipinitialspace=True))
    except FileNotFoundError:
        raise ManifestError(missing_list(dataset, path)) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not a CSV file: {error}; save it as CSV in UTF-8") from error


def format_classes(classes: ClassList) -> str:
    """Return the text of a class list."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("index", "id", "display_name"))
    rows.writerows(zip(range(len(classes.ids)), classes.ids, classes.names, strict=True))
    return text.getvalue()


def _parse_classes(path: Path, reader: "csv.DictReader[str]") -> ClassList:
    columns = reader.fieldnames or ()
    id_column = next((name for name in ID_COLUMNS if name in columns), "id")
    for column in ("index", id_column, "display_name"):
        if column not in columns:
            hint = "; fields are separated by commas" if len(columns) == 1 else ""
            raise ManifestError(
                f"{path}:1: column {column!r} is missing; found {list(columns)}{hint}"
            )
    ids: list[str] = []
    names: list[str] = []
    index: dict[str, int] = {}
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if row["index"] != str(len(ids)):
            raise ManifestError(
                f"{where}: index {row['index']!r}, expected {len(ids)}; indices are 0, 1, 2, ..."
            )
        for text in (row[id_column], row["display_name"]):
            if not text or index.setdefault(text, len(ids)) != len(ids):
                raise ManifestError(
                    f"{where}: {text!r} is empty or already means class {index.get(text)}"
                )
        ids.append(row[id_column])
        names.append(row["display_name"])
    if not ids:
        raise ManifestError(f"{path}: no class at all; one per line is expected")
    return ClassList(tuple(ids), tuple(names), index)
