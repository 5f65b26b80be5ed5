"""Sections of classification figures: each evaluation, and the mean over folds."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from pipeline_src.evaluate.records import HEADLINE, EvalMetrics, FoldFigure, FoldMetrics, Scores
from pipeline_src.modalities import HEADS
from pipeline_src.report.blocks import (
    HEAD_LABELS,
    MAX_DETAILED,
    MISSING,
    Cell,
    Chart,
    Charts,
    PageSection,
    Table,
    coverage_cell,
    hash_cell,
    interval_cell,
)
from pipeline_src.report.charts import MODALITY_STYLES, IntervalPoint, interval_chart


class Metric(NamedTuple):
    """A column of the results table."""

    key: str
    label: str
    scale: float
    digits: int


METRICS = (
    Metric("accuracy", "Accuracy, %", 100, 1),
    Metric("top5_accuracy", "Top-5, %", 100, 1),
    Metric("mAP", "mAP, %", 100, 1),
    Metric("mean_auc", "AUC", 1, 3),
    Metric("d_prime", "d\u2032", 1, 2),
)
RESULTS_LEAD = (
    "Each figure with its 95 % interval over the choice of test clips: Wilson\u2019s of shares, a "
    "bootstrap on the logit scale of mAP and AUC. It covers neither the seed of a run nor the "
    "speakers or videos that clips may share. "
    "Video scores are means over groups of frames, as many as a model sees at a time; the column "
    "named by that number is of the middle group alone. "
    "Clips: scored, of those in the list. A dash marks a figure that is undefined or not computed."
)


def classification_section(evaluations: Sequence[EvalMetrics]) -> PageSection:
    """Show every run and head in one table per data set, and as points."""
    section = PageSection("results", "Classification", RESULTS_LEAD)
    if not evaluations:
        section.problems.add("No evaluation could be read: run the target report again.")
    ordered = sorted(evaluations, key=lambda item: (item.dataset, item.split))
    for (dataset, split), group in groupby(ordered, key=lambda item: (item.dataset, item.split)):
        runs = list(group)
        section.blocks.append(_results_table(runs, caption=f"{dataset}, {split} split"))
        if len(runs) <= MAX_DETAILED and (chart := _results_chart(runs)):
            section.blocks.append(Charts([chart], is_wide=True))
        _check_comparable(section, runs)
    return section


def _results_table(runs: Sequence[EvalMetrics], caption: str) -> Table:
    found = [scores for run in runs for m in HEADS if (scores := run.scores(m))]
    metrics = [metric for metric in METRICS if any(scores.get(metric.key) for scores in found)]
    single = _single_frame_label(runs)
    rows = []
    for run in runs:
        for index, head in enumerate(run.heads):
            scores = run.scores(head) or Scores()
            cells = [Cell(HEAD_LABELS[head])]
            cells += [
                interval_cell(scores.get(m.key), scale=m.scale, digits=m.digits) for m in metrics
            ]
            if single:
                cells.append(interval_cell(run.single_headline(head), scale=100))
            if index == 0:
                span = len(run.heads)
                cells.insert(0, Cell(run.run, rowspan=span))
                cells.append(coverage_cell(run.num_clips, run.num_clips_in_list, rowspan=span))
                cells.append(hash_cell(run.clip_ids_sha256, rowspan=span))
            rows.append(cells)
    titles = ["Run", "Input", *(metric.label for metric in metrics), *([single] if single else [])]
    return Table(caption, [*titles, "Clips", "Clip list"], rows)


def _single_frame_label(runs: Sequence[EvalMetrics]) -> str:
    """Head the column of the middle frame group, e.g. "mAP, %, 1 frame"; empty without one."""
    sizes = sorted({run.single_frame.num_frames for run in runs if run.single_frame})
    if not sizes:
        return ""
    metric = next(item.label for item in METRICS if item.key == HEADLINE[runs[0].task])
    return f"{metric}, {' or '.join(map(str, sizes))} frame{'' if sizes == [1] else 's'}"


def _results_chart(runs: Sequence[EvalMetrics]) -> Chart | None:
    points = [
        IntervalPoint(run.run, head, headline)
        for run in runs
        for head in HEADS
        if (headline := run.headline(head)) is not None and headline.value is not None
    ]
    if not points:
        return None
    label = HEADLINE[runs[0].task]
    return interval_chart(
        points, MODALITY_STYLES, title=f"{label}, {runs[0].dataset}", axis_label=f"{label}, %"
    )


def _check_comparable(section: PageSection, runs: Sequence[EvalMetrics]) -> None:
    for run in runs:
        for text in run.warnings:
            section.problems.add(f"{run.name}: its checkpoint {text}")
        absent = [HEAD_LABELS[m] for m in run.heads if run.scores(m) is None]
        if absent:
            section.problems.add(f"{run.name}: metrics.json has no figures for {', '.join(absent)}")
    if len({run.clip_ids_sha256 for run in runs}) > 1:
        section.problems.add(
            f"{runs[0].dataset}: the runs were not scored on the same clips (see the clip list "
            "hashes), so their figures cannot be compared"
        )


FOLDS_RULE = "the rule evaluate_folds"
FOLDS_LEAD = (
    "Each fold is scored once by a model that was fine-tuned on the others. Mean over folds \u00b1 "
    "standard deviation over folds (n \u2212 1); below it the figure of each fold, in order. The "
    "folds share most of their training clips, so the spread is no standard error of the mean. "
    "Curves, predictions and intervals of one fold lie under eval/<data set>_fold<k> and "
    "finetune/<data set>_fold<k> of its run."
)


def folds_section(records: Sequence[FoldMetrics]) -> PageSection:
    """Write one table per data set, a row per run and input."""
    section = PageSection("folds", "Cross-validation", FOLDS_LEAD)
    ordered = sorted(records, key=lambda record: record.dataset)
    for dataset, group in groupby(ordered, key=lambda record: record.dataset):
        section.blocks.append(_folds_table(dataset, list(group)))
    return section


def _folds_table(dataset: str, runs: Sequence[FoldMetrics]) -> Table:
    metrics = [m for m in METRICS if any(m.key in run.scores(h) for run in runs for h in run.heads)]
    rows = []
    for run in runs:
        for index, head in enumerate(run.heads):
            cells = [Cell(HEAD_LABELS[head])]
            cells += [_figure_cell(run.scores(head).get(m.key), m) for m in metrics]
            if index == 0:
                span = len(run.heads)
                cells.insert(0, Cell(run.run, rowspan=span))
                cells.append(coverage_cell(run.num_clips, run.num_clips_in_list, rowspan=span))
            rows.append(cells)
    titles = ["Run", "Input", *(metric.label for metric in metrics), "Clips"]
    return Table(f"{dataset}, {len(runs[0].folds)} folds", titles, rows)


def _figure_cell(figure: FoldFigure | None, metric: Metric) -> Cell:
    if figure is None:
        return Cell(MISSING, tone="muted", is_number=True)
    mean, std, *folds = (
        f"{metric.scale * value:.{metric.digits}f}"
        for value in (figure.value, figure.std, *figure.folds)
    )
    return Cell(f"{mean} \u00b1 {std}", sub=", ".join(folds), is_number=True)
