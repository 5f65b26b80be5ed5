"""Clips of one's own found by sound or picture.

    av-pipeline search build results/avsiam_tiny/pretrain my_videos --index my_index
    av-pipeline search query dog.wav --index my_index --by audio

`build` takes folders, files, or the results of a data set (results/<dataset>); run again, it adds
what is new and leaves out what is gone. `query` compares a file's sound with the pictures of the
clips, or its picture with their sounds, or both; --against same compares like with like. The
checkpoint of a pre-training does it best: fine-tuning moves sound and picture apart.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from pipeline_src.errors import ConfigError
from pipeline_src.inference.model import load
from pipeline_src.inference.run import window_argument
from pipeline_src.inference.search.build import build_index
from pipeline_src.inference.search.open import open_indexed_model
from pipeline_src.inference.search.query import AGAINST, BY, Question, find, public_row
from pipeline_src.inference.search.store import ClipIndex
from pipeline_src.inference.stream import Options

MAX_TOP = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their options."""
    kinds = parser.add_subparsers(metavar="build|query", required=True, dest="kind")
    build = kinds.add_parser("build", help="an index of the clips of folders or of a data set")
    add = build.add_argument
    add("model", type=Path, help="folder of a training, of a checkpoint or of an export")
    add("sources", type=Path, nargs="+", help="folders, files, results/<dataset>")
    add("--index", type=Path, required=True, metavar="DIR", help="folder of the index")
    add("--window", type=window_argument, default="auto", metavar="SECONDS", help="as of `embed`")
    add("--frames", type=int, default=0, help="frames looked at per clip; 0 = as in training")
    add("--device", default="", help="e.g. cpu, cuda:1; left out: the GPU where there is one")
    add("--batch-size", type=int, default=32, help="clips that the network is given at a time")
    add("--workers", type=int, default=0, help="threads that decode; 0 = one per core")
    query = kinds.add_parser("query", help="the nearest clips of a file, picture or URL")
    add = query.add_argument
    add("file", help="a file or URL")
    add("--index", type=Path, required=True, metavar="DIR", help="folder of the index")
    add("--top", type=int, default=10, help="clips to find")
    add("--by", choices=BY, default="both", help="what of the file is compared")
    add("--against", choices=AGAINST, default="other", help="with which part of the clips")
    add("--label", default="", help="only clips of this class")
    add("--split", default="", help="only clips of this split")
    add("--json", action="store_true", help="JSON lines instead of a table")
    add("--device", default="", help="e.g. cpu, cuda:1; left out: the GPU where there is one")


def run(options: argparse.Namespace) -> int:
    """Build or ask, as the command line says."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    return _build(options) if options.kind == "build" else _query(options)


def _build(options: argparse.Namespace) -> int:
    model = load(options.model, device=options.device, num_frames=options.frames)
    reading = Options(
        modalities=model.modalities,
        window_seconds=options.window,
        batch_size=options.batch_size,
        num_workers=options.workers,
        progress=str(options.index),
    )
    about = build_index(model, options.sources, options.index, reading).about
    listed = ", ".join(f"{reason} {count}" for reason, count in about["reasons"].items())
    print(f"{options.index}: {about['num_clips']} clips; refused: {listed or 'none'}")
    print(f"Search it by eye:  av-pipeline serve {options.index}")
    return 0


def _query(options: argparse.Namespace) -> int:
    if not 1 <= options.top <= MAX_TOP:
        raise ConfigError(f"--top {options.top}; allowed: 1 to {MAX_TOP}")
    index = ClipIndex(options.index)
    model = open_indexed_model(index, options.device)
    made = model.embed(options.file, window_seconds=None)
    if len(made) != 1:
        raise ConfigError(f"{options.file}: {len(made)} files; name one")
    if made[0].span.reason:
        raise ConfigError(f"{options.file}: {made[0].span.reason}: {made[0].span.detail}")
    wanted = {name: made[0].compared(name) for name in index.vectors}
    asked = Question(
        options.by, options.against, options.top, label=options.label, split=options.split
    )
    rows = [public_row(row) for row in find(index, wanted, asked)]
    if options.json:
        print("".join(json.dumps(row) + "\n" for row in rows), end="")
    else:
        print("\n".join(_lines(rows)))
    if not rows:
        print("no clip fits", file=sys.stderr)
    return 0


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    cells = [
        (f"{row['score']:.4f}", _span(row), ";".join(row["labels"]), row["split"], row["clip"])
        for row in rows
    ]
    cells.insert(0, ("score", "seconds", "label", "split", "clip"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def _span(row: dict[str, Any]) -> str:
    return f"{row['start']:.1f}-{row['end']:.1f}" if row["end"] else ""
