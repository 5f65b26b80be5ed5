"""The plain-text table of every evaluation."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline_src.catalog import paths
from pipeline_src.errors import StageError
from pipeline_src.evaluate.records import (
    DIRECTIONS,
    Estimate,
    EvalMetrics,
    FoldFigure,
    FoldMetrics,
    ProbeMetrics,
    Retrieval,
    Scored,
    read_record,
)
from pipeline_src.modalities import HEADS

PATTERN, PROBE_PATTERN, FOLDS_PATTERN = map(
    paths.as_glob, (paths.SCORES, paths.PROBE_SCORES, paths.FOLD_SCORES)
)
HEAD = ("run", "data set", "input", "accuracy, %", "mAP, %", "clips")
RETRIEVAL_HEAD = (
    "run",
    "data set",
    "encoder",
    "retrieval",
    "R@1, %",
    "R@10, %",
    "R@10 by chance, %",
    "gallery",
)
MISSING = "-"


def format_table(
    metrics_files: Sequence[Path],
    probe_files: Sequence[Path] = (),
    fold_files: Sequence[Path] = (),
) -> str:
    """Write classification and retrieval of every evaluation, with 95 % intervals in brackets.

    Args:
        probe_files: of pre-trainings on data sets where no fine-tuning was scored: retrieval only.
        fold_files: of data sets with folds: mean and standard deviation over the folds.
    Raises:
        StageError: no file, or one that cannot be read.
    """
    if not (metrics_files or probe_files or fold_files):
        raise StageError(f"no evaluation found ({PATTERN}): run `snakemake all` first")
    evaluations = [
        read_record(path, EvalMetrics, "the rule evaluate_finetuned") for path in metrics_files
    ]
    probes = [
        read_record(path, ProbeMetrics, "the rule evaluate_pretrained") for path in probe_files
    ]
    rows = [row for evaluation in evaluations for row in _classification_rows(evaluation)]
    folds = [read_record(path, FoldMetrics, "the rule evaluate_folds") for path in fold_files]
    rows += [row for record in folds for row in _fold_rows(record)]
    parts = [_align([HEAD, *rows])] if rows else []
    rows = [row for scored in (*evaluations, *probes) for row in _retrieval_rows(scored)]
    if rows:
        parts.append(_align([RETRIEVAL_HEAD, *rows]))
    return "\n\n".join(parts) + "\n"


def print_table(
    metrics_files: Sequence[Path],
    probe_files: Sequence[Path] = (),
    fold_files: Sequence[Path] = (),
) -> None:
    """Write ``format_table`` to standard output."""
    sys.stdout.write(format_table(metrics_files, probe_files, fold_files))


def _classification_rows(evaluation: EvalMetrics) -> list[tuple[str, ...]]:
    clips = f"{evaluation.num_clips} of {evaluation.num_clips_in_list}"
    return [
        (
            evaluation.run,
            f"{evaluation.dataset}/{evaluation.split}",
            head,
            _percent(figures.get("accuracy")),
            _percent(figures.get("mAP")),
            clips,
        )
        for head in HEADS
        if (figures := evaluation.scores(head)) is not None
    ]


def _fold_rows(record: FoldMetrics) -> list[tuple[str, ...]]:
    clips = f"{record.num_clips} of {record.num_clips_in_list}"
    return [
        (
            record.run,
            f"{record.dataset}, mean of {len(record.folds)} folds",
            head,
            *(_mean_text(record.scores(head).get(key)) for key in ("accuracy", "mAP")),
            clips,
        )
        for head in record.heads
    ]


def _mean_text(figure: FoldFigure | None) -> str:
    return f"{100 * figure.value:.1f} +- {100 * figure.std:.1f}" if figure else MISSING


def _retrieval_rows(evaluation: Scored) -> list[tuple[str, ...]]:
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
            f"{100 * retrieval.chance_level('R@10'):.1f}",
            str(retrieval.gallery_size),
        )
        for direction in DIRECTIONS
    ]


def _percent(interval: Estimate | None) -> str:
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


def print_results(root: Path, configured: Collection[Path] | None = None) -> None:
    """Write the table of a results folder to standard output, and where its report is.

    Args:
        configured: the evaluations to show; how many others there are is said. None = all.
    Raises:
        StageError: there is no evaluation in it.
    """
    found = [sorted(root.glob(one)) for one in (PATTERN, PROBE_PATTERN, FOLDS_PATTERN)]
    if configured is not None:
        found = [[path for path in some if path in configured] for some in found]
    scored, probes, folds = found
    names = [{"run": path.parents[2].name, "dataset": path.parent.name} for path in scored]
    shown = {Path(paths.fill(paths.PROBE_SCORES, root, **one)) for one in names}
    probes = [path for path in probes if path not in shown]
    if not (scored or probes or folds):
        raise StageError(f"{root}: no evaluation found ({PATTERN}): run `snakemake all` first")
    print_table(scored, probes, folds)
    num_others = 0 if configured is None else len(set(root.glob(PATTERN)) - set(scored))
    if num_others:
        others = f"Evaluations of other configurations beside them: {num_others}"
        sys.stdout.write(f"\n{others} (av-pipeline table {root})\n")
    page = Path(paths.fill(paths.REPORT, root))
    if page.is_file():
        sys.stdout.write(f"\nReport: {page}\n")
