"""Sections of the headline figures: classification and retrieval."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from pipeline_src.evaluate.records import (
    DIRECTIONS,
    HEADLINE,
    MODALITIES,
    EvalMetrics,
    Retrieval,
    Scores,
)
from pipeline_src.report.blocks import (
    DIRECTION_LABELS,
    MISSING,
    MODALITY_LABELS,
    Cell,
    Chart,
    Charts,
    Section,
    Table,
    coverage_cell,
    hash_cell,
    interval_cell,
    number_text,
)
from pipeline_src.report.whiskers import MODALITY_LOOKS, Whisker, whisker_chart


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
RECALLS = ("R@1", "R@5", "R@10")
RESULTS_LEAD = (
    "Each figure with its 95 % interval: percentiles of a bootstrap over test clips. It covers the "
    "choice of clips, not the seed of a run nor the speakers or videos that clips may share, and "
    "has no width where every clip is right. "
    "Video scores are means over groups of frames, as many as a model sees at a time; the column "
    "named by that number is of the middle group alone. "
    "Clips: scored, of those in the list. A dash marks a figure that is undefined or not computed."
)
RETRIEVAL_LEAD = (
    "The clip\u2019s own video among all videos of the gallery given its audio, and the reverse: "
    "share of queries with the true pair among the first k by cosine similarity. Ties are queries "
    "whose true pair has exactly the score of another candidate; many of them mean collapsed "
    "embeddings and void the figures."
)
MAX_TIED_FRACTION = 0.01


def classification_section(evaluations: Sequence[EvalMetrics]) -> Section:
    """Every run, data set and modality in one table per data set, and as whiskers."""
    section = Section("results", "Classification", RESULTS_LEAD)
    if not evaluations:
        section.problems.add("No evaluation could be read: run the target report again.")
    ordered = sorted(evaluations, key=lambda item: (item.dataset, item.split))
    for (dataset, split), group in groupby(ordered, key=lambda item: (item.dataset, item.split)):
        runs = list(group)
        section.blocks.append(_results_table(runs, caption=f"{dataset}, {split} split"))
        if chart := _results_chart(runs):
            section.blocks.append(Charts([chart], is_wide=True))
        _check_comparable(section, runs)
    return section


def _results_table(runs: Sequence[EvalMetrics], caption: str) -> Table:
    found = [scores for run in runs for m in MODALITIES if (scores := run.scores(m))]
    metrics = [metric for metric in METRICS if any(scores.get(metric.key) for scores in found)]
    single = _single_frame_label(runs)
    rows = []
    for run in runs:
        for index, modality in enumerate(run.heads):
            scores = run.scores(modality) or Scores()
            cells = [Cell(MODALITY_LABELS[modality])]
            cells += [
                interval_cell(scores.get(m.key), scale=m.scale, digits=m.digits) for m in metrics
            ]
            if single:
                cells.append(interval_cell(run.single_headline(modality), scale=100))
            if index == 0:
                span = len(run.heads)
                cells.insert(0, Cell(run.run, rowspan=span))
                cells.append(coverage_cell(run.num_clips, run.num_clips_in_list, rowspan=span))
                cells.append(hash_cell(run.clip_ids_sha256, rowspan=span))
            rows.append(cells)
    head = ["Run", "Input", *(metric.label for metric in metrics), *([single] if single else [])]
    return Table(caption, [*head, "Clips", "Clip list"], rows)


def _single_frame_label(runs: Sequence[EvalMetrics]) -> str:
    """Head of the column of the middle frame group, e.g. "mAP, %, 1 frame"; empty without one."""
    sizes = sorted({run.single_frame.num_frames for run in runs if run.single_frame})
    if not sizes:
        return ""
    metric = next(item.label for item in METRICS if item.key == HEADLINE[runs[0].task])
    return f"{metric}, {' or '.join(map(str, sizes))} frame{'' if sizes == [1] else 's'}"


def _results_chart(runs: Sequence[EvalMetrics]) -> Chart | None:
    whiskers = [
        Whisker(run.run, modality, headline)
        for run in runs
        for modality in MODALITIES
        if (headline := run.headline(modality)) is not None and headline.value is not None
    ]
    if not whiskers:
        return None
    label = HEADLINE[runs[0].task]
    return whisker_chart(
        whiskers, MODALITY_LOOKS, title=f"{label}, {runs[0].dataset}", axis_label=f"{label}, %"
    )


def _check_comparable(section: Section, runs: Sequence[EvalMetrics]) -> None:
    for run in runs:
        for text in run.warnings:
            section.problems.add(f"{run.name}: its checkpoint {text}")
        absent = [MODALITY_LABELS[m] for m in run.heads if run.scores(m) is None]
        if absent:
            section.problems.add(f"{run.name}: metrics.json has no figures for {', '.join(absent)}")
    if len({run.clip_ids_sha256 for run in runs}) > 1:
        section.problems.add(
            f"{runs[0].dataset}: the runs were not scored on the same clips (see the clip list "
            "hashes), so their figures cannot be compared"
        )


def retrieval_section(evaluations: Sequence[EvalMetrics]) -> Section:
    """Recall in both directions against chance."""
    section = Section("retrieval", "Retrieval", RETRIEVAL_LEAD)
    named = {run.name: run.retrieval for run in evaluations if run.retrieval is not None}
    for run in evaluations:
        if run.retrieval is None and "video" in run.modalities:
            section.problems.add(f"{run.name}: metrics.json holds no retrieval figures")
    if named:
        section.blocks.append(retrieval_table(named, caption="Retrieval, both directions"))
        for name, retrieval in named.items():
            report_ties(section, name, retrieval)
    return section


def report_ties(section: Section, name: str, retrieval: Retrieval) -> None:
    """Warn where ties make recall look better than it is."""
    for direction, num_tied in retrieval.num_tied.items():
        if num_tied > MAX_TIED_FRACTION * retrieval.gallery_size:
            section.problems.add(
                f"{name}, {DIRECTION_LABELS[direction]}: {num_tied} of {retrieval.gallery_size} "
                "queries are tied, so recall is not to be trusted"
            )


def retrieval_table(named: dict[str, Retrieval], caption: str) -> Table:
    """One row per encoder and direction, and chance for each gallery size."""
    rows = []
    for name, retrieval in named.items():
        for index, direction in enumerate(DIRECTIONS):
            figures = retrieval.direction(direction)
            cells = [Cell(DIRECTION_LABELS[direction])]
            cells += [interval_cell(figures.get(key), scale=100) for key in RECALLS]
            cells += [_ratio_cell(retrieval, direction), interval_cell(figures.get("median_rank"))]
            if index == 0:
                title = Cell(name, sub=_encoder_text(retrieval), rowspan=2)
                cells = [title, *cells, Cell(f"{retrieval.gallery_size:,}", is_number=True,
                                             rowspan=2)]  # fmt: skip
            tied = retrieval.num_tied.get(direction)
            text = MISSING if tied is None else f"{tied:,}"
            cells.append(Cell(text, is_number=True, tone="" if tied else "muted"))
            rows.append(cells)
    by_size = {retrieval.gallery_size: retrieval for retrieval in named.values()}
    rows += [_chance_row(size, by_size[size]) for size in sorted(by_size)]
    head = ["Encoder", "Direction", "R@1, %", "R@5, %", "R@10, %", "R@10 / chance", "Median rank",
            "Gallery", "Ties"]  # fmt: skip
    return Table(caption, head, rows)


def _encoder_text(retrieval: Retrieval) -> str:
    if not retrieval.checkpoint:
        return ""
    learnt = f" on {', '.join(retrieval.trained_on)}" if retrieval.trained_on else ""
    return f"after {retrieval.checkpoint}{learnt}{', zero-shot' if retrieval.zero_shot else ''}"


def _ratio_cell(retrieval: Retrieval, direction: str) -> Cell:
    recall = retrieval.direction(direction).get("R@10")
    chance = retrieval.chance_level("R@10")
    is_better = recall is not None and recall.low is not None and recall.low > chance
    return interval_cell(recall, scale=1 / chance, tone="good" if is_better else "")


def _chance_row(gallery_size: int, retrieval: Retrieval) -> list[Cell]:
    recalls = [
        Cell(number_text(retrieval.chance_level(key), scale=100), tone="muted", is_number=True)
        for key in RECALLS
    ]
    median = number_text(retrieval.chance_level("median_rank"))
    return [
        Cell("Chance", tone="muted"),
        Cell("either", tone="muted"),
        *recalls,
        Cell("1.0", tone="muted", is_number=True),
        Cell(median, tone="muted", is_number=True),
        Cell(f"{gallery_size:,}", tone="muted", is_number=True),
        Cell(MISSING, tone="muted", is_number=True),
    ]
