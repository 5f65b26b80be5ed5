"""An index from a checkpoint and clips; what was begun is continued."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_src.errors import MediaError
from pipeline_src.inference.decode import DecodedInput, InputWindow, Opened
from pipeline_src.inference.model import Model
from pipeline_src.inference.results import Embedding
from pipeline_src.inference.search.layout import place_clips
from pipeline_src.inference.search.preview import preview_picture, preview_sound
from pipeline_src.inference.search.sources import (
    Decoded,
    SourceClip,
    decode_sources,
    list_source_clips,
)
from pipeline_src.inference.search.store import (
    ABOUT_FILE,
    COLUMNS_FILE,
    FORMAT,
    ROWS_FILE,
    ClipIndex,
    IndexWriter,
    Row,
    line_offsets,
)
from pipeline_src.inference.stream import Options
from pipeline_src.manifest.ledger import one_line
from pipeline_src.system.atomic import atomic_path, json_sha256, write_json

logger = logging.getLogger(__name__)
HASH_CHARS = 12


def build_index(model: Model, sources: Sequence[Path], folder: Path, options: Options) -> ClipIndex:
    """Bring the index of ``folder`` to what the sources hold now.

    Raises:
        ConfigError: the folder holds something else, or the sources nothing.
    """
    options = replace(options, progress=options.progress or "index")
    clips = list_source_clips(sources, model)
    settings = [model.sha256, options.window_seconds, [*options.modalities], model.num_frames]
    widths = dict.fromkeys(options.modalities, _width(model))
    with IndexWriter(folder, json_sha256(settings)[:HASH_CHARS], widths) as writer:
        (folder / ABOUT_FILE).unlink(missing_ok=True)
        done = {(row["clip"], *row["stamp"]) for row in writer.rows}
        left = [clip for clip in clips if (clip.clip, *clip.stamp) not in done]
        if len(left) < len(clips):
            logger.info("%d of %d are done", len(clips) - len(left), len(clips))
        _index_clips(left, model, options, writer)
        rows = writer.rows
    _finish(folder, rows, clips, model, widths)
    return ClipIndex(folder)


def _width(model: Model) -> int:
    """Return how long the vectors are that sound and picture are compared by."""
    config, size = model.network.config, model.format.logmel_shape(1)
    silence = np.zeros((*size[:-1], config.num_mel_bins), np.float16)
    part = InputWindow(Opened(0, ""), 0)
    (made,) = model.embed_decoded([(part, DecodedInput(0.0, 0.0, silence, None))])
    vector = made.compared("audio")
    assert vector is not None
    return len(vector)


def _index_clips(
    clips: Sequence[SourceClip], model: Model, options: Options, writer: IndexWriter
) -> None:
    with closing(decode_sources(clips, model, options)) as decoded:
        made = _embedded(decoded, model, options.batch_size)
        for _, group in groupby(made, key=lambda one: one[0].clip):
            parts = list(group)
            rows = [_row(clip, one) for clip, one, _ in parts]
            vectors = {
                name: [one.compared(name) for _, one, _ in parts] for name in options.modalities
            }
            writer.append(rows, vectors, [preview for _, _, preview in parts])


Indexed = tuple[SourceClip, Embedding, tuple[bytes, bytes]]


def _embedded(decoded: Iterable[Decoded], model: Model, batch_size: int) -> Iterator[Indexed]:
    stream = iter(decoded)
    while group := list(islice(stream, batch_size)):
        found = model.embed_decoded([(part, seen) for _, part, seen in group])
        for (clip, _, seen), one in zip(group, found, strict=True):
            yield clip, one, _previews(seen)


def _previews(seen: DecodedInput | MediaError) -> tuple[bytes, bytes]:
    if isinstance(seen, MediaError):
        return b"", b""
    return preview_picture(seen), preview_sound(seen)


def _row(clip: SourceClip, one: Embedding) -> Row:
    span = one.span
    return clip.row() | {
        "start": span.start_seconds,
        "end": span.end_seconds,
        "window": span.window,
        "num_windows": span.num_windows,
        "has": [name for name in ("audio", "video") if getattr(one, name) is not None],
        "flags": list(span.flags),
        "reason": span.reason,
        "detail": one_line(span.detail),
    }


def _finish(
    folder: Path,
    rows: Sequence[Row],
    clips: Sequence[SourceClip],
    model: Model,
    widths: dict[str, int],
) -> None:
    """Write the columns, then index.json."""
    counts = _counting(rows, clips)
    names = {
        "labels": sorted({label for row in rows for label in row["labels"]}),
        "splits": sorted({row["split"] for row in rows if row["split"]}),
    }
    with atomic_path(folder / COLUMNS_FILE) as temporary, temporary.open("wb") as stream:
        columns = _columns(folder, rows, counts, names, widths)
        np.savez(stream, allow_pickle=False, **columns)
    counted = [row for row, is_in in zip(rows, counts, strict=True) if is_in]
    about = _origin(model, widths) | {"num_rows": len(rows)} | _totals(counted) | names
    write_json(folder / ABOUT_FILE, about)


def _columns(
    folder: Path,
    rows: Sequence[Row],
    counts: NDArray,
    names: dict[str, list[str]],
    widths: dict[str, int],
) -> dict[str, NDArray]:
    """Return what a search needs of every row, as arrays (N,)."""
    refused = np.array([bool(row["reason"]) for row in rows], bool)
    vectors = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in widths if rows}
    splits = [_place(names["splits"], row["split"]) for row in rows]
    return {
        "counts": counts,
        "refused": refused,
        "offsets": line_offsets(folder / ROWS_FILE),
        "splits": np.array(splits, np.int32),
        "places": _places(vectors, counts & ~refused),
        **_label_columns(rows, names["labels"]),
        **{name: np.array([name in row["has"] for row in rows], bool) for name in widths},
    }


def _origin(model: Model, widths: dict[str, int]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": model.name,
        "checkpoint": str(model.folder.absolute()),
        "checkpoint_sha256": model.sha256,
        "num_frames": model.num_frames,
        "modalities": list(widths),
        "widths": widths,
    }


def _totals(counted: Sequence[Row]) -> dict[str, Any]:
    reasons = Counter(row["reason"] for row in counted if row["reason"])
    return {
        "num_clips": len(counted) - reasons.total(),
        "num_refused": reasons.total(),
        "reasons": dict(sorted(reasons.items())),
    }


def _counting(rows: Sequence[Row], clips: Sequence[SourceClip]) -> NDArray:
    """Tell which rows (N,) are of clips that are as they were when indexed, as booleans."""
    current = {clip.clip: list(clip.stamp) for clip in clips}
    return np.array([current.get(row["clip"]) == row["stamp"] for row in rows], bool)


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name else -1


def _places(vectors: dict[str, NDArray], shown_N: NDArray) -> NDArray:
    """Place the rows that are shown on the map: (N, 2) float32, NaN for the others."""
    places = np.full((len(shown_N), 2), np.nan, np.float32)
    rows = np.flatnonzero(shown_N)
    if len(rows):
        places[rows] = place_clips(vectors, rows)
    return places


def _label_columns(rows: Sequence[Row], labels: Sequence[str]) -> dict[str, NDArray]:
    """List all pairs of row and label, as two columns (pairs,)."""
    codes = {label: code for code, label in enumerate(labels)}
    pairs = [(number, codes[label]) for number, row in enumerate(rows) for label in row["labels"]]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return {"label_rows": table[:, 0], "label_codes": table[:, 1]}
