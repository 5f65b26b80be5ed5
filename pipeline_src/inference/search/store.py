"""An index on disk: what is appended while it is built, and what is read once it is complete.

    rows.jsonl     a line per clip, or window of a file: what it is and why it was refused
    audio.npy      (N, D) float32, length 1, a row per line; zeros where there is no sound
    video.npy      the same of the pictures
    previews.bin   pictures and spectrograms; rows say where theirs lie
    columns.npz    which rows count, their labels, splits, places on the map, offsets of lines
    index.json     the checkpoint and all counts; written last

Rows are only ever appended. One whose file has changed or is gone stays, but counts no more.
Shape legend: N rows, D width.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline_src.errors import ConfigError, StageError, is_disk_full
from pipeline_src.system.lock import hold_file

ABOUT_FILE, ROWS_FILE, COLUMNS_FILE = "index.json", "rows.jsonl", "columns.npz"
PREVIEWS_FILE, BEGUN_FILE = "previews.bin", "begun.json"
FORMAT = 1
Row = dict[str, Any]


class VectorFile:
    """A .npy file of float32 rows that grows; its header tells how many once it is closed."""

    def __init__(self, path: Path, width: int, num_rows: int) -> None:
        self._width = width
        self._header_bytes = len(_header(0, width))
        size = self._header_bytes + 4 * width * num_rows
        if num_rows and (not path.is_file() or path.stat().st_size < size):
            raise ConfigError(f"{path}: lacks rows; delete {path.parent} and build it again")
        self._stream = path.open("r+b" if path.exists() else "w+b")
        self._stream.truncate(size)
        self._write_header(num_rows)
        self._num_rows = num_rows

    def append(self, vectors: Sequence[NDArray | None]) -> None:
        """Add rows (D,); None is a row of zeros."""
        zeros = np.zeros(self._width, np.float32)
        rows = [zeros if vector is None else vector for vector in vectors]
        self._stream.write(np.stack(rows).astype("<f4").tobytes())
        self._num_rows += len(rows)

    def flush(self) -> None:
        """Hand the rows to the system."""
        self._stream.flush()

    def close(self) -> None:
        """Write the header and close."""
        self._write_header(self._num_rows)
        self._stream.close()

    def _write_header(self, num_rows: int) -> None:
        self._stream.seek(0)
        self._stream.write(_header(num_rows, self._width))
        self._stream.seek(0, os.SEEK_END)


def _header(num_rows: int, width: int) -> bytes:
    """Make a header, equally long for every number of rows: numpy leaves room for it to grow."""
    stream = io.BytesIO()
    layout = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, width)}
    npy.write_array_header_1_0(stream, layout)
    return stream.getvalue()


class IndexWriter:
    """Appends to an index folder, new or begun before.

    Args:
        made_by: hash of the weights and settings that its vectors come from.
        widths: of the vectors of each modality.
    Raises:
        ConfigError: the folder holds something else, or what other weights or settings made.
    """

    def __init__(self, folder: Path, made_by: str, widths: Mapping[str, int]) -> None:
        self._folder = folder
        self._begin(made_by)
        self._lock = _hold(folder / BEGUN_FILE)
        self.rows, row_bytes = _whole_rows(folder / ROWS_FILE)
        self._row_stream = _open_at(folder / ROWS_FILE, row_bytes)
        self._preview_end = max((sum(row["preview"]) for row in self.rows), default=0)
        self._preview_stream = _open_at(folder / PREVIEWS_FILE, self._preview_end)
        self._vectors = {
            name: VectorFile(folder / f"{name}.npy", width, len(self.rows))
            for name, width in widths.items()
        }

    def _begin(self, made_by: str) -> None:
        path = self._folder / BEGUN_FILE
        advice = "delete it, or name another --index"
        if not path.is_file():
            if self._folder.exists() and any(self._folder.iterdir()):
                raise ConfigError(f"{self._folder}: holds other files; {advice}")
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"format": FORMAT, "made_by": made_by}) + "\n")
        begun = _read_json(path)
        if (begun.get("format"), begun.get("made_by")) != (FORMAT, made_by):
            raise ConfigError(
                f"{self._folder}: was made by another checkpoint or with other settings; {advice}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        streams = (self._row_stream, self._preview_stream, *self._vectors.values(), self._lock)
        for stream in streams:
            stream.close()

    def append(
        self,
        rows: Sequence[Row],
        vectors: Mapping[str, Sequence[NDArray | None]],
        previews: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """Add all rows of one input; after a kill it is there as a whole or not at all.

        Args:
            vectors: of each modality, one per row. previews: picture and spectrogram of each row.
        Raises:
            StageError: the disk is full.
        """
        try:
            for name, vector_file in self._vectors.items():
                vector_file.append(vectors[name])
                vector_file.flush()
            for row, pair in zip(rows, previews, strict=True):
                row["preview"] = [self._preview_end, *map(len, pair)]
                self._preview_stream.write(b"".join(pair))
                self._preview_end += sum(map(len, pair))
            self._preview_stream.flush()
            lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
            self._row_stream.write(lines.encode())
            self._row_stream.flush()
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise StageError(
                f"disk full: {self._folder} could not be written; free space and run the same "
                "command again"
            ) from error
        self.rows += rows


def _hold(path: Path) -> BinaryIO:
    """Lock an index for as long as the file is open.

    Raises:
        ConfigError: another process holds it.
    """
    stream = path.open("rb")
    hold_file(stream, f"{path.parent}: another process builds it; wait for it")
    return stream


def _open_at(path: Path, size: int) -> BinaryIO:
    stream = path.open("ab")
    stream.truncate(size)
    return stream


def _whole_rows(path: Path) -> tuple[list[Row], int]:
    """Return the rows up to the last input of which all are there, and how many bytes they are."""
    rows: list[Row] = []
    found: list[Row] = []
    whole = end = 0
    for row, size in _lines(path) if path.is_file() else ():
        end += size
        found.append(row)
        if row["window"] == row["num_windows"] - 1:
            rows += found
            found, whole = [], end
    return rows, whole


def _lines(path: Path) -> Iterator[tuple[Row, int]]:
    with path.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
                if not {"clip", "window", "num_windows", "preview"} <= row.keys():
                    raise ValueError("keys are missing")
            except (ValueError, AttributeError, RecursionError) as error:
                raise ConfigError(f"{path}: damaged ({error}); build the index again") from None
            yield row, len(line)


def line_offsets(path: Path) -> NDArray:
    """Return where each line begins, (N,), int64."""
    with path.open("rb") as stream:
        sizes = [len(line) for line in stream]
    return np.cumsum([0, *sizes[:-1]], dtype=np.int64) if sizes else np.empty(0, np.int64)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable ({error}); build the index again") from None
    return value if isinstance(value, dict) else {}


class ClipIndex:
    """A complete index, opened for reading; vectors stay on disk.

    Raises:
        ConfigError: it is not complete, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / ABOUT_FILE).is_file():
            begun = (folder / BEGUN_FILE).is_file()
            what = "was begun but is not complete" if begun else "no index"
            raise ConfigError(
                f"{folder}: {what}; run `av-pipeline search build CHECKPOINT FOLDER --index "
                f"{folder}`"
            )
        self.folder = folder
        self.about = _read_json(folder / ABOUT_FILE)
        if self.about.get("format") != FORMAT:
            raise ConfigError(f"{folder}: an index of another version; build it again")
        self.num_rows: int = self.about["num_rows"]
        try:
            self.columns = dict(np.load(folder / COLUMNS_FILE, allow_pickle=False))
            self.vectors = {name: self._vectors(name) for name in self.about["modalities"]}
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{folder}: damaged ({error}); build it again") from None

    def _vectors(self, name: str) -> NDArray:
        """Map the vectors of a modality into memory: (N, D) float32.

        Raises:
            ValueError: the file has another shape.
        """
        if not self.num_rows:  # nothing can be mapped
            return np.empty((0, self.about["widths"][name]), np.float32)
        vectors = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        if vectors.shape != (self.num_rows, self.about["widths"][name]):
            raise ValueError(f"{name}.npy has the shape {vectors.shape}")
        return vectors

    def row(self, number: int) -> Row:
        """Read the line of a row.

        Raises:
            LookupError: there is none.
        """
        if not 0 <= number < self.num_rows or not self.columns["counts"][number]:
            raise LookupError(f"no row {number}")
        with (self.folder / ROWS_FILE).open("rb") as stream:
            stream.seek(int(self.columns["offsets"][number]))
            return {"row": number, **json.loads(stream.readline())}

    def preview(self, row: Row, kind: str) -> bytes:
        """Read a row's picture (``kind`` video) or spectrogram (audio) as JPEG; may be empty."""
        start, picture, sound = row["preview"]
        offset, size = (start, picture) if kind == "video" else (start + picture, sound)
        with (self.folder / PREVIEWS_FILE).open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    def allowed(self, label: str = "", split: str = "") -> NDArray:
        """Tell which rows (N,) count and have this label and split, as booleans; empty = any.

        Raises:
            ConfigError: no clip has such a label or split.
        """
        allowed = self.columns["counts"] & ~self.columns["refused"]
        if label:
            rows = self.columns["label_rows"][
                self.columns["label_codes"] == self._code("labels", label)
            ]
            has_label = np.zeros(self.num_rows, bool)
            has_label[rows] = True
            allowed = allowed & has_label
        if split:
            allowed = allowed & (self.columns["splits"] == self._code("splits", split))
        return allowed

    def _code(self, kind: str, name: str) -> int:
        known = self.about[kind]
        if name not in known:
            listed = ", ".join(known[:50]) or "none"
            raise ConfigError(f"{kind[:-1]} {name!r} is not in {self.folder}; known: {listed}")
        return known.index(name)
