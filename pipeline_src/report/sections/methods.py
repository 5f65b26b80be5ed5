"""Section that sets the runs of a data set side by side: what each reaches, and what it cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline_src.errors import StageError
from pipeline_src.evaluate.records import DIRECTIONS, ProbeMetrics, read_record
from pipeline_src.modalities import HEADS
from pipeline_src.report.arms import (
    Arm,
    ArmFigures,
    EvaluatedRun,
    mean_over_runs,
    metric_label,
)
from pipeline_src.report.blocks import (
    DIRECTION_LABELS,
    HEAD_LABELS,
    MISSING,
    Cell,
    Chart,
    Charts,
    PageSection,
    Table,
    Text,
    duration_text,
    interval_cell,
    number_text,
)
from pipeline_src.report.charts import MODALITY_STYLES, IntervalPoint, interval_chart
from pipeline_src.report.load import Problems, TrainingDone, read_run_config
from pipeline_src.report.sections.arm_probes import probes_tables
from pipeline_src.report.sections.progress import progress_blocks
from pipeline_src.report.sections.training import (
    STAGE_LABELS,
    Stage,
    WeightsOrigin,
    stage_folder,
    weights_origin,
)
from pipeline_src.runs.spec import DONE_FILE

EQUAL_WITHIN = 0.05
STAGES: tuple[Stage, ...] = ("pretrain", "finetune")
COUNTED = (("Parameters, million", "parameters"), ("Memory, MB", "memory_bytes"))
LEAD = (
    "Runs that differ in their seeds alone are one row: the mean over seeds, with a 95 % interval "
    "over seeds and clips (Student\u2019s, variances of both added). Differences are to the first "
    "row, seed by seed, on the same clips or the videos that they share; a single run has a paired "
    "bootstrap over clips, which does not cover seeds. None is corrected for the number of rows. "
    "In the means of R@10, probes and the error on hidden patches clips count as if they moved "
    "every seed alike, so these intervals are rather too wide. "
    "Operations are those of matrix products, forward and backward, counted on the network and "
    "recipe and multiplied by the clips seen; a multiply-add is two. Memory is counted too: "
    "weights, gradients, the optimiser\u2019s moments and the activations of a whole batch, in "
    "fp32 on one device. Time is wall clock on whatever machine trained, a mean over seeds. "
    "\u00d7: against the first row."
)


class Costs(NamedTuple):
    """What an arm cost: where its stages come from, and their done.json where trained.

    Args:
        trainings: of the first run. seconds: mean over seeds.
    """

    arm: Arm
    model: str
    origins: dict[Stage, WeightsOrigin]
    trainings: dict[Stage, TrainingDone]
    seconds: dict[Stage, float]

    def flops(self, stage: Stage) -> float | None:
        """Return operations of a stage; 0 where there is none, None where they are not known."""
        if self.origins[stage].kind == "none":
            return 0.0
        training = self.trainings.get(stage)
        return training.cost.flops if training and training.cost else None

    @property
    def total_flops(self) -> float | None:
        """Operations of both stages."""
        known = [flops for stage in STAGES if (flops := self.flops(stage)) is not None]
        return sum(known) if len(known) == len(STAGES) else None


def methods_section(
    arms: Mapping[str, Sequence[Arm]], figures: ArmFigures, probes: Sequence[ProbeMetrics] = ()
) -> PageSection | None:
    """Set runs side by side for each data set; None where no data set has several runs."""
    section = PageSection("methods", "Methods and cost", LEAD)
    for dataset, found in arms.items():
        if sum(len(arm.runs) for arm in found) < 2:
            continue
        costs = [_read_costs(section.problems, arm) for arm in found]
        if len(found) > 1:
            section.blocks.append(Text(_equality_text(costs)))
        section.blocks.append(_figures_table(section.problems, costs, figures, dataset))
        charts = _differences_chart(section.problems, found, figures)
        if any(len(arm.runs) > 1 for arm in found):
            charts = [*_figures_chart(section.problems, found, figures), *charts]
        section.blocks += [Charts(charts, is_wide=True)] if charts else []
        section.blocks += probes_tables(found, probes, dataset)
        section.blocks.append(_costs_table(costs, dataset))
        spent = {one.arm.name: (one.flops("pretrain"), one.flops("finetune")) for one in costs}
        section.blocks += progress_blocks(section.problems, found, spent)
    return section if section.blocks else None


def _read_costs(problems: Problems, arm: Arm) -> Costs:
    sections = arm.first.sections
    origins: dict[Stage, WeightsOrigin] = {s: weights_origin(sections, s) for s in STAGES}
    trainings: dict[Stage, TrainingDone] = {}
    seconds: dict[Stage, float] = {}
    for stage in STAGES:
        read = [_read_done(problems, run, stage) for run in arm.runs]
        if read[0] is not None:
            trainings[stage] = read[0]
            seconds[stage] = float(np.mean([done.seconds for done in read if done]))
    model = sections.get("model") or {}
    name = f"{model.get('method', '')} {model.get('size', '')}".strip()
    return Costs(arm, name, origins, trainings, seconds)


def _trained_by(run: EvaluatedRun, stage: Stage) -> Path | None:
    """Return the folder of the run that trained a stage of ``run``; None = none here did."""
    origin = weights_origin(run.sections, stage)
    if origin.kind != "other":
        return run.folder if origin.kind == "own" else None
    # The pre-training of the named run itself, whatever that one is fine-tuned from.
    folder = run.folder.parent / origin.name
    try:
        pretrain = read_run_config(folder)[1].get("pretrain") or {}
    except StageError:
        return folder  # its done.json is asked for, and missed by name
    return None if pretrain.get("checkpoint") else folder


def _read_done(problems: Problems, run: EvaluatedRun, stage: Stage) -> TrainingDone | None:
    owner = _trained_by(run, stage)
    if owner is None:
        return None
    path = stage_folder(owner, stage, run.evaluation.dataset) / DONE_FILE
    done = problems.attempt(lambda: read_record(path, TrainingDone, f"the rule {stage}_model"))
    if done is not None and done.cost is None:
        problems.add(
            f"{owner.name}: done.json of {stage} holds no cost, an earlier version wrote it; "
            f"snakemake --forcerun {stage}_model -- report, with this configuration, adds it "
            "without training again"
        )
    return done


def _equality_text(costs: Sequence[Costs]) -> str:
    """Say whether the arms cost the same, stage by stage."""
    parts, is_equal = [], True
    for stage in STAGES:
        known = [flops for one in costs if (flops := one.flops(stage)) is not None]
        if len(known) < len(costs):
            return "The cost of some run is not known, so the runs are not set at equal cost."
        spread = max(known) / min(known) - 1 if min(known) > 0 else float(max(known) > 0)
        is_equal &= spread <= EQUAL_WITHIN
        parts.append(f"{STAGE_LABELS[stage].lower()} by {100 * spread:.1f} %")
    opening = "At equal cost" if is_equal else "Not at equal cost"
    return f"{opening}: between runs operations differ in {' and in '.join(parts)}."


def _figures_table(
    problems: Problems, costs: Sequence[Costs], figures: ArmFigures, dataset: str
) -> Table:
    """Write a row an arm: what it reaches, and by how much it differs from the first."""
    arms = [one.arm for one in costs]
    has_seeds = any(len(arm.runs) > 1 for arm in arms)
    label = metric_label(arms[0].first.evaluation)
    titles = ["Run", "Network", *(["Seeds"] if has_seeds else [])]
    titles += [f"{label}, %, {HEAD_LABELS[m]}" for m in HEADS]
    titles += [f"Over the first, {HEAD_LABELS[m]}" for m in HEADS]
    titles += [f"R@10, %, {DIRECTION_LABELS[way]}" for way in DIRECTIONS]
    rows = []
    for one in costs:
        cells = [Cell(one.arm.name), Cell(one.model or MISSING)]
        cells += [Cell(str(len(one.arm.runs)), is_number=True)] if has_seeds else []
        cells += [interval_cell(figures.headline(problems, one.arm, m), scale=100) for m in HEADS]
        for head in HEADS:
            is_first = one is costs[0]
            gain = None if is_first else figures.difference(problems, one.arm, arms[0], head)
            tone = "good" if gain and gain.is_gain else "warn" if gain and gain.is_loss else ""
            cells.append(interval_cell(gain, scale=100, tone=tone))
        rows.append([*cells, *(_recall_cell(one.arm, way) for way in DIRECTIONS)])
    return Table(f"Runs on {dataset}", titles, rows)


def _figures_chart(problems: Problems, arms: Sequence[Arm], figures: ArmFigures) -> list[Chart]:
    """Draw the means over seeds with their intervals."""
    points = [
        IntervalPoint(arm.name, head, headline)
        for arm in arms
        for head in HEADS
        if (headline := figures.headline(problems, arm, head)) is not None
    ]
    label = metric_label(arms[0].first.evaluation)
    title = f"{label}, mean over seeds"
    if not points:
        return []
    return [interval_chart(points, MODALITY_STYLES, title=title, axis_label=f"{label}, %")]


def _differences_chart(problems: Problems, arms: Sequence[Arm], figures: ArmFigures) -> list[Chart]:
    """Draw by how much each row differs from the first, seed by seed on the same clips."""
    points = [
        IntervalPoint(arm.name, head, difference)
        for arm in arms[1:]
        for head in HEADS
        if (difference := figures.difference(problems, arm, arms[0], head)) is not None
    ]
    label = metric_label(arms[0].first.evaluation)
    if not points:
        return []
    chart = interval_chart(
        points,
        MODALITY_STYLES,
        title=f"{label}, difference to {arms[0].name}, paired by seed and clip",
        axis_label=f"{label}, points above {arms[0].name}",
        has_zero_line=True,
    )
    return [chart]


def _recall_cell(arm: Arm, direction: str) -> Cell:
    """Write R@10: of a single run, or the mean over seeds, whose hits on each clip are not kept."""
    retrievals = [run.evaluation.retrieval for run in arm.runs]
    found = [one.direction(direction).get("R@10") if one else None for one in retrievals]
    return interval_cell(mean_over_runs(found, largest=1), scale=100)


def _costs_table(costs: Sequence[Costs], dataset: str) -> Table:
    """Write a row an arm: operations, time, parameters and memory of each stage."""
    titles = ["Run"]
    columns: list[list[Cell]] = [[Cell(one.arm.name) for one in costs]]
    for stage in STAGES:
        titles.append(f"TFLOP, {STAGE_LABELS[stage].lower()}")
        columns.append(_cost_cells(costs, lambda one, s=stage: one.flops(s), 1e12, stage))
    titles.append("TFLOP, both")
    columns.append(_cost_cells(costs, lambda one: one.total_flops, 1e12))
    for stage in STAGES:
        titles.append(f"Time, {STAGE_LABELS[stage].lower()}")
        columns.append([_time_cell(one, stage) for one in costs])
    for label, key in COUNTED:
        for stage in STAGES:
            titles.append(f"{label}, {STAGE_LABELS[stage].lower()}")
            columns.append(_cost_cells(costs, _cost_reader(stage, key), 1e6, stage))
    return Table(f"Cost of the runs on {dataset}", titles, list(zip(*columns, strict=True)))


def _cost_reader(stage: Stage, key: str) -> Callable[[Costs], float | None]:
    def read(one: Costs) -> float | None:
        training = one.trainings.get(stage)
        return getattr(training.cost, key) if training and training.cost else None

    return read


def _cost_cells(
    costs: Sequence[Costs],
    read: Callable[[Costs], float | None],
    unit: float,
    stage: Stage | None = None,
) -> list[Cell]:
    """Write a counted quantity of each arm, and its ratio to the first arm's."""
    first = read(costs[0])
    cells = []
    for index, one in enumerate(costs):
        value, note = read(one), _origin_note(one, stage)
        if value is not None and first and index and not note:
            note = f"{value / first:.2f}\u2009\u00d7"
        text = number_text(None if value is None else value / unit, digits=_digits(value, unit))
        cells.append(Cell(text, sub=note, tone="muted" if value is None else "", is_number=True))
    return cells


def _digits(value: float | None, unit: float) -> int:
    """Choose one or two decimals; as many as show two figures of a small value."""
    if value is None or value / unit >= 10:
        return 1
    return 2 if value == 0 else max(2, 1 - math.floor(math.log10(value / unit)))


def _origin_note(one: Costs, stage: Stage | None) -> str:
    origin = one.origins[stage] if stage else WeightsOrigin("own")
    notes = {
        "own": "",
        "none": "from scratch",
        "converted": "weights from elsewhere",
        "other": f"shared with {origin.name}",
    }
    return notes[origin.kind]


def _time_cell(one: Costs, stage: Stage) -> Cell:
    seconds = one.seconds.get(stage)
    return Cell(MISSING if seconds is None else duration_text(seconds), is_number=True)
