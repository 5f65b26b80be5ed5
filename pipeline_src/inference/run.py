"""What ``av-pipeline embed`` and ``classify`` share: inputs, options, and rows as they are made."""

import argparse
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline_src.errors import ConfigError
from pipeline_src.inference.inputs import Item, list_items
from pipeline_src.inference.model import Model, load
from pipeline_src.inference.results import Classification, Embedding, SourceSpan
from pipeline_src.inference.table import ResultTable, plain_text
from pipeline_src.modalities import MODALITIES
from pipeline_src.system.atomic import json_sha256

HASH_CHARS = 12
COMMENT = "# "  # begins a line of a list that names no file
BYTE_ORDER_MARK = "\ufeff"  # before what Windows' editors and shells write
WHOLE = "whole"
Result = Embedding | Classification
Row = Callable[[Any], dict[str, Any]]


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint, the inputs and how they are read."""
    add = parser.add_argument
    add("model", type=Path, help="folder of a training, of a checkpoint or of an export")
    add("inputs", nargs="*", help="files, folders, URLs")
    add(
        "--list",
        type=Path,
        metavar="FILE",
        help="a text file with an input per line, or '# ' and a comment; - = stdin",
    )
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="FILE.csv or FILE.jsonl; one that exists is continued, with what was "
        "refused for a passing reason. Left out: JSON lines to stdout",
    )
    add(
        "--window",
        type=window_argument,
        default="auto",
        metavar="SECONDS",
        help="rows for windows of this length; whole = a row per file; auto (default) = windows "
        "as long as the network hears, for files of more than twice that",
    )
    add("--modalities", nargs="+", choices=MODALITIES, help="what to look for in a file")
    add("--frames", type=int, default=0, help="frames looked at per clip; 0 = as in training")
    add("--device", default="", help="e.g. cpu, cuda:1; left out: the GPU where there is one")
    add("--batch-size", type=int, default=32, help="clips that the network is given at a time")
    add("--workers", type=int, default=0, help="threads that decode; 0 = one per core")


def window_argument(text: str) -> float | str | None:
    """Parse the value of --window.

    Raises:
        ArgumentTypeError: neither seconds nor one of the words; names them.
    """
    if text in ("auto", WHOLE):
        return None if text == WHOLE else text
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r}; allowed: seconds, more than 0, auto, {WHOLE}")


def open_model(options: argparse.Namespace) -> Model:
    """Return the checkpoint that the command line names."""
    # Everything else is said on stderr, so that rows may go to stdout.
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    return load(options.model, device=options.device, num_frames=options.frames)


def write_table(
    options: argparse.Namespace,
    model: Model,
    make: Callable[..., Iterable[Result]],
    columns: Sequence[str],
    row: Row,
    record: Row,
) -> int:
    """Write the results of all inputs that the table has none of; say how many were refused.

    Args:
        make: ``model.embeddings`` or ``model.classifications``. row, record: of a CSV line, of a
            JSON line.
    """
    items = _items(options)
    settings = [model.sha256, make.__name__, options.window, options.modalities, model.num_frames]
    table = ResultTable(options.output, columns, json_sha256([*settings, columns])[:HASH_CHARS])
    shape = row if options.output and options.output.suffix == ".csv" else record
    refused, in_part = Counter[str](), Counter[str]()  # inputs, by the reasons of their windows
    with table:
        left = [item for item in items if plain_text(item.name) not in table.done]
        if len(left) < len(items):
            reasons = (table.done.get(plain_text(item.name)) for item in items)
            earlier = Counter(reason for reason in reasons if reason)
            refusals = f"; of them refused: {_listing(earlier)}" if earlier else ""
            print(f"{len(items) - len(left)} of {len(items)} are done{refusals}", file=sys.stderr)
        for results in _by_input(make(left, **_read_options(options))):
            table.write([shape(one) for one in results])
            found = {one.span.reason for one in results}
            (in_part if "" in found else refused).update(found - {""})
    shown = f"{len(left)} inputs; refused: {_listing(refused) or 'none'}"
    print(shown + (f"; in part: {_listing(in_part)}" if in_part else ""), file=sys.stderr)
    return 0


def _listing(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())


def _items(options: argparse.Namespace) -> list[Item]:
    named = [*options.inputs, *_listed(options.list)]
    items = list({item.name: item for item in list_items(named)}.values())
    if not items and named:
        raise ConfigError(f"{', '.join(map(str, named))}: no recordings or pictures in there")
    if not items:
        raise ConfigError("nothing to look at: name files, folders or URLs, or --list FILE")
    return items


def _listed(path: Path | None) -> list[str]:
    """Return the lines of a list, or of standard input.

    Raises:
        ConfigError: it cannot be read.
    """
    if path is None:
        return []
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--list {path}: not readable: {error}") from error
    lines = (line.strip() for line in text.removeprefix(BYTE_ORDER_MARK).split("\n"))
    return [line for line in lines if line and not line.startswith(COMMENT)]


def _read_options(options: argparse.Namespace) -> dict[str, Any]:
    given = {
        "window_seconds": options.window,
        "batch_size": options.batch_size,
        "num_workers": options.workers,
        "progress": str(options.model),
    }
    return given | ({"modalities": tuple(options.modalities)} if options.modalities else {})


def _by_input(results: Iterable[Result]) -> Iterator[list[Result]]:
    for _, group in groupby(results, key=lambda one: one.span.number):
        yield list(group)


SPAN_COLUMNS = [name for name in SourceSpan._fields if name != "number"]
