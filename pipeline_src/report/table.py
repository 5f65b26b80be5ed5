"""The plain-text table of every evaluation: ``python -m pipeline_src.report.table results``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline_src.errors import StageError
from pipeline_src.report.load import read_record
from pipeline_src.report.records import (
    DIRECTIONS,
    MODALITIES,
    EvalMetrics,
    Interval,
    Retrieval,
)

PATTERN = "*/eval/*/metrics.json"
HEAD = ("run", "data set", "input", "accuracy, %", "mAP, %", "clips")
RETRIEVAL_HEAD = (
    "run",
    "data set",
    "encoder",
    "retrieval",
    "R@1, %",
    "R@10, %",
    "chance, %",
    "gallery",
)
MISSING = "-"


def format_table(metrics_files: Sequence[Path]) -> str:
    """Classification and retrieval of every evaluation, with 95 % intervals in brackets.

    Raises:
        StageError: no file, or one that cannot be read.
    """
    if not metrics_files:
        raise StageError(f"no evaluation found ({PATTERN}): run `snakemake all` first")
    evaluations = [
        read_record(path, EvalMetrics, "the rule evaluate_finetuned") for path in metrics_files
    ]
    rows = [row for evaluation in evaluations for row in _classification_rows(evaluation)]
    parts = [_align([HEAD, *rows])]
    rows = [row for evaluation in evaluations for row in _retrieval_rows(evaluation)]
    if rows:
        parts.append(_align([RETRIEVAL_HEAD, *rows]))
    return "\n\n".join(parts) + "\n"


def print_table(metrics_files: Sequence[Path]) -> None:
    """Write ``format_table`` to standard output."""
    sys.stdout.write(format_table(metrics_files))


def _classification_rows(evaluation: EvalMetrics) -> list[tuple[str, ...]]:
    clips = f"{evaluation.num_clips} of {evaluation.num_clips_in_list}"
    return [
        (
            evaluation.run,
            f"{evaluation.dataset}/{evaluation.split}",
            modality,
            _percent(figures.get("accuracy")),
            _percent(figures.get("mAP")),
            clips,
        )
        for modality in MODALITIES
        if (figures := evaluation.figures(modality)) is not None
    ]


def _retrieval_rows(evaluation: EvalMetrics) -> list[tuple[str, ...]]:
    retrieval: Retrieval | None = evaluation.retrieval
    if retrieval is None:
        return []
    return [
        (
            evaluation.run,
            f"{evaluation.dataset}/{evaluation.split}",
            retrieval.checkpoint or MISSING,
            direction,
            _percent(retrieval.direction(direction).get("R@1")),
            _percent(retrieval.direction(direction).get("R@10")),
            f"{100 * retrieval.chance('R@10'):.1f}",
            str(retrieval.gallery_size),
        )
        for direction in DIRECTIONS
    ]


def _percent(interval: Interval | None) -> str:
    if interval is None or interval.value is None:
        return MISSING
    text = f"{100 * interval.value:.1f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0], rule, *lines[1:]])


def main(arguments: Sequence[str]) -> int:
    """Print the table of a results folder; 1 where there is none."""
    root = Path(arguments[0] if arguments else "results")
    try:
        print_table(sorted(root.glob(PATTERN)))
        page = root / "report" / "index.html"
        if page.is_file():
            sys.stdout.write(f"\nReport: {page}\n")
    except StageError as error:
        sys.stderr.write(f"{root}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
