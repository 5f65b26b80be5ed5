"""Section of data sets with folds: mean and spread over folds, and each fold's figure."""

from collections.abc import Sequence
from itertools import groupby

from pipeline_src.evaluate.records import FoldFigure, FoldMetrics
from pipeline_src.report.blocks import MISSING, MODALITY_LABELS, Cell, Section, Table, coverage_cell
from pipeline_src.report.results import METRICS, Metric

FOLDS_RULE = "the rule evaluate_folds"
FOLDS_LEAD = (
    "Each fold is scored once by a model that was fine-tuned on the others. Mean over folds \u00b1 "
    "standard deviation over folds (n \u2212 1); below it the figure of each fold, in order. The "
    "folds share most of their training clips, so the spread is no standard error of the mean. "
    "Curves, predictions and intervals of one fold lie under eval/<data set>_fold<k> and "
    "finetune/<data set>_fold<k> of its run."
)


def folds_section(records: Sequence[FoldMetrics]) -> Section:
    """One table per data set, a row per run and input."""
    section = Section("folds", "Cross-validation", FOLDS_LEAD)
    ordered = sorted(records, key=lambda record: record.dataset)
    for dataset, group in groupby(ordered, key=lambda record: record.dataset):
        section.blocks.append(_folds_table(dataset, list(group)))
    return section


def _folds_table(dataset: str, runs: Sequence[FoldMetrics]) -> Table:
    metrics = [m for m in METRICS if any(m.key in run.scores(h) for run in runs for h in run.heads)]
    rows = []
    for run in runs:
        for index, head in enumerate(run.heads):
            cells = [Cell(MODALITY_LABELS[head])]
            cells += [_figure_cell(run.scores(head).get(m.key), m) for m in metrics]
            if index == 0:
                span = len(run.heads)
                cells.insert(0, Cell(run.run, rowspan=span))
                cells.append(coverage_cell(run.num_clips, run.num_clips_in_list, rowspan=span))
            rows.append(cells)
    head = ["Run", "Input", *(metric.label for metric in metrics), "Clips"]
    return Table(f"{dataset}, {len(runs[0].folds)} folds", head, rows)


def _figure_cell(figure: FoldFigure | None, metric: Metric) -> Cell:
    if figure is None:
        return Cell(MISSING, tone="muted", is_number=True)
    mean, std, *folds = (
        f"{metric.scale * value:.{metric.digits}f}"
        for value in (figure.value, figure.std, *figure.folds)
    )
    return Cell(f"{mean} \u00b1 {std}", sub=", ".join(folds), is_number=True)
