"""Curves of several runs over each other: over cost in operations or time, and of each loss."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline_src.report.arms import Arm, EvaluatedRun
from pipeline_src.report.blocks import HEAD_LABELS, Block, Chart, Charts, Collapsible
from pipeline_src.report.charts import Curve, Line, Row, line_chart, logged_curve, mean_curve
from pipeline_src.report.colours import CLASS_COLOURS
from pipeline_src.report.load import Problems, read_rows
from pipeline_src.report.sections.training import (
    FINETUNE_PANELS,
    PRETRAIN_PANELS,
    STAGE_LABELS,
    Stage,
    stage_folder,
    weights_origin,
)
from pipeline_src.runs.history import METRICS_LOG_FILE

MAX_DRAWN = len(CLASS_COLOURS)  # in one chart, one colour each
Rows = Sequence[Row]
Spent = tuple[float | None, float | None]


def progress_blocks(
    problems: Problems, arms: Sequence[Arm], spent: Mapping[str, Spent]
) -> list[Block]:
    """Draw validation scores over the operations spent, and over the time of fine-tuning.

    Args:
        spent: operations of pre-training and fine-tuning of each arm.
    """
    over_cost: dict[str, list[Rows]] = {}
    over_time: dict[str, list[Rows]] = {}
    for arm in arms:
        logs = [rows for run in arm.runs if (rows := own_rows(problems, run, "finetune"))]
        before, during = spent[arm.name]
        if logs and before is not None and during:
            over_cost[arm.name] = [_scored_by_cost(rows, before, during) for rows in logs]
        if logs:
            over_time[arm.name] = [_scored_by_time(rows) for rows in logs]
    names = [arm.name for arm in arms]
    charts = score_charts(over_cost, names, "tflop", "TFLOP, pre-training included")
    timed = score_charts(over_time, names, "minutes", "minutes of fine-tuning")
    blocks: list[Block] = [Charts(charts)] if charts else []
    if timed:
        blocks.append(Collapsible("The same over time", [Charts(timed)]))
    return blocks


def chart_parts(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Split rows over charts, the first row in each; the text says which part, where several."""
    first, others = list(names[:1]), list(names[1:])
    count = max(1, math.ceil(len(others) / (MAX_DRAWN - 1)))
    ends = [round(len(others) * part / count) for part in range(count + 1)]
    return [
        (f", part {part} of {count}" if count > 1 else "", first + others[ends[part - 1] : end])
        for part, end in enumerate(ends[1:], start=1)
    ]


def overlay_blocks(arms: Mapping[str, Sequence[Arm]]) -> list[Block]:
    """Draw each logged quantity of all runs in one chart; none where there is one run."""
    blocks: list[Block] = []
    drawn: list[list[Path]] = []
    for dataset, found in arms.items():
        folders = [run.folder for arm in found for run in arm.runs]
        if len(folders) < 2:
            continue
        for stage in STAGE_LABELS:
            if stage == "pretrain" and folders in drawn:
                continue  # another data set's runs have the same pre-trainings
            charts = _overlaid(found, stage)
            title = f"{STAGE_LABELS[stage]}, runs on {dataset}"
            blocks += [Collapsible(title, [Charts(charts)], is_open=True)] if charts else []
        drawn.append(folders)
    return blocks


def _overlaid(arms: Sequence[Arm], stage: Stage) -> list[Chart]:
    """Draw what at least two runs logged."""
    # The parts of single runs say what cannot be read.
    read = {
        arm.name: [rows for run in arm.runs if (rows := own_rows(Problems(), run, stage))]
        for arm in arms
    }
    logs = {name: rows for name, rows in read.items() if rows}
    if sum(map(len, logs.values())) < 2:
        return []
    names = [arm.name for arm in arms]
    charts = []
    for panel in PRETRAIN_PANELS if stage == "pretrain" else FINETUNE_PANELS:
        for line in panel.lines:
            title = f"{panel.title}, {line.label}" if len(panel.lines) > 1 else panel.title
            for text, part in chart_parts(names):
                charts += overlay_chart(_chosen(logs, part), line.key, title=title + text)
    if stage == "finetune":
        scored = {name: [_scored(rows) for rows in runs] for name, runs in logs.items()}
        charts += score_charts(scored, names, "epoch", "epoch")
    return charts


def _chosen(logs: Mapping[str, Sequence[Rows]], names: Sequence[str]) -> dict[str, Sequence[Rows]]:
    return {name: logs[name] for name in names if name in logs}


def own_rows(problems: Problems, run: EvaluatedRun, stage: Stage) -> list[Row]:
    """Read what a run logged of a stage; nothing where it did not train that itself."""
    if weights_origin(run.sections, stage).kind != "own":
        return []
    path = stage_folder(run.folder, stage, run.evaluation.dataset) / METRICS_LOG_FILE
    return list(problems.attempt(lambda: read_rows(path, f"the rule {stage}_model")) or [])


def _scored(rows: Rows) -> list[Row]:
    """Keep the rows of validation, their scores beside step and epoch."""
    return [{**row, **row["val"]} for row in rows if isinstance(row.get("val"), dict)]


def _scored_by_cost(rows: Rows, before: float, during: float) -> list[Row]:
    last = max(row["step"] for row in rows)
    return [
        {**row, "tflop": (before + during * row["step"] / last) / 1e12} for row in _scored(rows)
    ]


def _scored_by_time(rows: Rows) -> list[Row]:
    timed = [(row["step"], row["seconds"] / 60) for row in rows if "seconds" in row]
    if not timed:
        return []
    steps, minutes = zip(*timed, strict=True)
    return [
        {**row, "minutes": float(np.interp(row["step"], steps, minutes))} for row in _scored(rows)
    ]


def score_charts(
    progress: Mapping[str, Sequence[Rows]], names: Sequence[str], over: str, axis_label: str
) -> list[Chart]:
    """Draw a chart per modality with a curve per arm, the mean of its seeds in their range.

    Args:
        progress: rows of each run of each arm: ``over``, and a score per modality.
        names: of all arms, in order; see ``chart_parts``.
    """
    charts = []
    for text, part in chart_parts(names):
        for modality, label in HEAD_LABELS.items():
            charts += overlay_chart(
                _chosen(progress, part),
                modality,
                over=over,
                title=f"Validation score, per cent, {label}{text}",
                axis_label=axis_label,
                scale=100,
                marker="o",
            )
    return charts


def overlay_chart(
    logs: Mapping[str, Sequence[Rows]],
    key: str,
    *,
    title: str,
    over: str = "epoch",
    axis_label: str = "epoch",
    scale: float = 1,
    marker: str | None = None,
) -> list[Chart]:
    """Draw one quantity of several arms in one chart; none where no arm logged it."""
    curves = {}
    for colour, (name, runs) in zip(CLASS_COLOURS, logs.items(), strict=False):
        found: list[Curve] = [
            curve for rows in runs if (curve := logged_curve(rows, key, scale=scale, over=over))
        ]
        if found:
            line = Line(key, name, colour)
            curves[line] = found[0] if len(found) == 1 else mean_curve(found)
    if not curves:
        return []
    chart = line_chart(curves, title=title, name="Runs", marker=marker, axis_label=axis_label)
    return [chart]
