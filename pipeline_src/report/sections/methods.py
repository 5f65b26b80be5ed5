"""Section that sets the runs of a data set side by side: what each reaches, and what it cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline_src.evaluate.differences import headline_difference
from pipeline_src.evaluate.files import PREDICTIONS_FILE
from pipeline_src.evaluate.records import (
    DIRECTIONS,
    HEADLINE,
    MODALITIES,
    Estimate,
    EvalMetrics,
    Modality,
    read_record,
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
    Text,
    duration_text,
    interval_cell,
    number_text,
)
from pipeline_src.report.charts import CLASS_COLOURS, Line, Row, line_chart, logged_curve
from pipeline_src.report.load import Problems, TrainingDone, read_arrays, read_rows, read_run_config
from pipeline_src.report.sections.training import (
    STAGE_LABELS,
    Stage,
    WeightsOrigin,
    stage_folder,
    weights_origin,
)
from pipeline_src.runs.history import METRICS_LOG_FILE
from pipeline_src.runs.spec import DONE_FILE

EQUAL_WITHIN = 0.05
NUM_RESAMPLES = {"multiclass": 1000, "multilabel": 200}  # a resample of mAP takes longer
MAX_DRAWN_RUNS = 6
STAGES: tuple[Stage, ...] = ("pretrain", "finetune")
LEAD = (
    "Operations are those of matrix products, forward and backward, counted on the network and "
    "recipe and multiplied by the clips seen; a multiply-add is two. Memory is counted too: "
    "weights, gradients, the optimiser\u2019s moments and the activations of a whole batch, in "
    "fp32 on one device. Differences are to the first run, on the same clips, with the 95 % "
    "interval of a paired bootstrap over clips, or over the videos that they share; it does not "
    "cover seeds, and is not corrected for the number of runs. Time is wall clock on whatever "
    "machine trained the run. \u00d7: against "
    "the first run."
)


class MethodRun(NamedTuple):
    """One column: an evaluation, where its stages come from, and their done.json where trained.

    ``path`` is that of metrics.json.
    """

    path: Path
    evaluation: EvalMetrics
    model: str
    origins: dict[Stage, WeightsOrigin]
    trainings: dict[Stage, TrainingDone]

    def flops(self, stage: Stage) -> float | None:
        """Operations of a stage; 0 where there is none, None where they are not known."""
        if self.origins[stage].kind == "none":
            return 0.0
        training = self.trainings.get(stage)
        return training.cost.flops if training and training.cost else None

    @property
    def total_flops(self) -> float | None:
        """Operations of both stages."""
        known = [flops for stage in STAGES if (flops := self.flops(stage)) is not None]
        return sum(known) if len(known) == len(STAGES) else None


def methods_section(evaluations: Sequence[tuple[Path, EvalMetrics]]) -> Section | None:
    """Set runs side by side, one table a data set; None where no data set has several runs.

    Args:
        evaluations: results/<run>/eval/<dataset>/metrics.json with its record.
    """
    section = Section("methods", "Methods and cost", LEAD)
    ordered = sorted(evaluations, key=lambda item: item[1].dataset)
    for dataset, group in groupby(ordered, key=lambda item: item[1].dataset):
        found = list(group)
        if len(found) < 2:
            continue
        runs = [_read_run(section.problems, path, record) for path, record in found]
        section.blocks.append(Text(_equality_text(runs)))
        section.blocks.append(_table(section.problems, runs, caption=f"Runs on {dataset}"))
        if len(runs) <= MAX_DRAWN_RUNS:
            section.blocks += _progress(section.problems, found, runs)
    return section if section.blocks else None


def _read_run(problems: Problems, path: Path, evaluation: EvalMetrics) -> MethodRun:
    run_dir = path.parents[2]
    loaded = problems.attempt(lambda: read_run_config(run_dir))
    sections = loaded[1] if loaded else {}
    origins: dict[Stage, WeightsOrigin] = {s: weights_origin(sections, s) for s in STAGES}
    trainings: dict[Stage, TrainingDone] = {}
    for stage, origin in origins.items():
        if origin.kind not in ("own", "other"):
            continue
        owner = run_dir.parent / origin.name if origin.kind == "other" else run_dir
        done_path = stage_folder(owner, stage, evaluation.dataset) / DONE_FILE
        rule = f"the rule {stage}_model"
        done = problems.attempt(lambda p=done_path, r=rule: read_record(p, TrainingDone, r))
        if done is not None:
            trainings[stage] = done
        if done is not None and done.cost is None:
            problems.add(
                f"{owner.name}: done.json of {stage} holds no cost, an earlier version wrote it; "
                f"snakemake --forcerun {stage}_model -- report, with this configuration, adds it "
                "without training again"
            )
    model = sections.get("model") or {}
    name = f"{model.get('method', '')} {model.get('size', '')}".strip()
    return MethodRun(path, evaluation, name, origins, trainings)


def _equality_text(runs: Sequence[MethodRun]) -> str:
    """Say whether the runs cost the same, stage by stage."""
    parts, is_equal = [], True
    for stage in STAGES:
        costs = [flops for run in runs if (flops := run.flops(stage)) is not None]
        if len(costs) < len(runs):
            return "The cost of some run is not known, so the runs are not set at equal cost."
        spread = max(costs) / min(costs) - 1 if min(costs) > 0 else float(max(costs) > 0)
        is_equal &= spread <= EQUAL_WITHIN
        parts.append(f"{STAGE_LABELS[stage].lower()} by {100 * spread:.1f} %")
    opening = "At equal cost" if is_equal else "Not at equal cost"
    return f"{opening}: between runs operations differ in {' and in '.join(parts)}."


def _table(problems: Problems, runs: Sequence[MethodRun], caption: str) -> Table:
    """Lay measures out as rows, runs as columns."""
    rows = [[Cell("Network"), *(Cell(run.model or MISSING, is_number=True) for run in runs)]]
    rows += _figure_rows(runs)
    rows += _difference_rows(problems, runs)
    for stage in STAGES:
        title = Cell("Operations, TFLOP", sub=STAGE_LABELS[stage].lower())
        rows.append(_cost_row(title, runs, lambda run, stage=stage: run.flops(stage), 1e12, stage))
    title = Cell("Operations, TFLOP", sub="both")
    rows.append(_cost_row(title, runs, lambda run: run.total_flops, 1e12))
    for stage in STAGES:
        title = Cell("Time", sub=STAGE_LABELS[stage].lower())
        rows.append([title, *(_time_cell(run, stage) for run in runs)])
    for label, key in (("Parameters, million", "parameters"), ("Memory, MB", "memory_bytes")):
        for stage in STAGES:
            title = Cell(label, sub=STAGE_LABELS[stage].lower())
            rows.append(_cost_row(title, runs, _cost_reader(stage, key), 1e6))
    return Table(caption, ["", *(run.evaluation.run for run in runs)], rows)


def _figure_rows(runs: Sequence[MethodRun]) -> list[list[Cell]]:
    metric = HEADLINE[runs[0].evaluation.task]
    label = metric[0].upper() + metric[1:]
    rows = []
    for modality in MODALITIES:
        cells = [interval_cell(run.evaluation.headline(modality), scale=100) for run in runs]
        rows.append([Cell(f"{label}, %", sub=MODALITY_LABELS[modality]), *cells])
    for direction in DIRECTIONS:
        found = [run.evaluation.retrieval for run in runs]
        cells = [
            interval_cell(one.direction(direction).get("R@10") if one else None, scale=100)
            for one in found
        ]
        rows.append([Cell("R@10, %", sub=DIRECTION_LABELS[direction]), *cells])
    return rows


def _difference_rows(problems: Problems, runs: Sequence[MethodRun]) -> list[list[Cell]]:
    """Write how each run differs from the first on the same clips, by a paired bootstrap."""
    task = runs[0].evaluation.task
    rows = []
    for modality in MODALITIES:
        cells = [Cell(MISSING, tone="muted", is_number=True)]
        for run in runs[1:]:
            gain = problems.attempt(lambda run=run, m=modality: run_difference(run, runs[0], m))
            tone = "good" if gain and gain.is_gain else "warn" if gain and gain.is_loss else ""
            cells.append(interval_cell(gain, scale=100, tone=tone))
        title = f"{HEADLINE[task][0].upper()}{HEADLINE[task][1:]}, points over the first"
        rows.append([Cell(title, sub=MODALITY_LABELS[modality]), *cells])
    return rows


def run_difference(run: MethodRun, first: MethodRun, modality: Modality) -> Estimate | None:
    """Compare two runs on the clips of both; None where one has no scores of the modality.

    Raises:
        StageError: predictions.npz is missing or damaged.
    """
    if run.evaluation.scores(modality) is None or first.evaluation.scores(modality) is None:
        return None
    if run.evaluation.clip_ids_sha256 != first.evaluation.clip_ids_sha256:
        return None  # the section on classification says so
    ours, theirs = (
        read_arrays(
            one.path.with_name(PREDICTIONS_FILE),
            ["clip_ids", "targets", modality],
            "the rule evaluate_finetuned",
            optional=["sources"],
        )
        for one in (run, first)
    )
    if not np.array_equal(ours["clip_ids"], theirs["clip_ids"]):
        return None
    task = run.evaluation.task
    difference = headline_difference(
        ours[modality],
        theirs[modality],
        ours["targets"],
        task=task,
        num_resamples=NUM_RESAMPLES[task],
        seed=0,
        groups=ours["sources"].tolist() if "sources" in ours else None,
    )
    return Estimate.model_validate(difference)


def _cost_reader(stage: Stage, key: str) -> Callable[[MethodRun], float | None]:
    def read(run: MethodRun) -> float | None:
        training = run.trainings.get(stage)
        return getattr(training.cost, key) if training and training.cost else None

    return read


def _cost_row(
    title: Cell,
    runs: Sequence[MethodRun],
    read: Callable[[MethodRun], float | None],
    unit: float,
    stage: Stage | None = None,
) -> list[Cell]:
    """Write a counted quantity of each run, and its ratio to the first run's."""
    first = read(runs[0])
    cells = []
    for index, run in enumerate(runs):
        value, note = read(run), _origin_note(run, stage)
        if value is not None and first and index and not note:
            note = f"{value / first:.2f}\u2009\u00d7"
        text = number_text(None if value is None else value / unit, digits=_digits(value, unit))
        cells.append(Cell(text, sub=note, tone="muted" if value is None else "", is_number=True))
    return [title, *cells]


def _digits(value: float | None, unit: float) -> int:
    """Choose one or two decimals; as many as show two figures of a small value."""
    if value is None or value / unit >= 10:
        return 1
    return 2 if value == 0 else max(2, 1 - math.floor(math.log10(value / unit)))


def _origin_note(run: MethodRun, stage: Stage | None) -> str:
    origin = run.origins[stage] if stage else WeightsOrigin("own")
    notes = {
        "own": "",
        "none": "from scratch",
        "converted": "weights from elsewhere",
        "other": f"shared with {origin.name}",
    }
    return notes[origin.kind]


def _time_cell(run: MethodRun, stage: Stage) -> Cell:
    training = run.trainings.get(stage)
    return Cell(duration_text(training.seconds) if training else MISSING, is_number=True)


def _progress(
    problems: Problems, found: Sequence[tuple[Path, EvalMetrics]], runs: Sequence[MethodRun]
) -> list[Charts]:
    """Draw validation scores over the operations spent, one chart a modality."""
    points: dict[str, list[Mapping[str, float]]] = {}
    for (path, _), run in zip(found, runs, strict=True):
        start, spent = run.flops("pretrain"), run.flops("finetune")
        if start is None or not spent or run.origins["finetune"].kind != "own":
            continue
        name = stage_folder(path.parents[2], "finetune", run.evaluation.dataset) / METRICS_LOG_FILE
        rows = problems.attempt(lambda name=name: read_rows(name, "the rule finetune_model")) or []
        last = run.trainings["finetune"].step
        points[run.evaluation.run] = [
            {"tflop": (start + spent * row["step"] / last) / 1e12, **row["val"]}
            for row in rows
            if isinstance(row.get("val"), dict)
        ]
    charts = progress_charts({run: rows for run, rows in points.items() if rows})
    return [Charts(charts)] if charts else []


def progress_charts(progress: Mapping[str, Sequence[Row]]) -> list[Chart]:
    """Draw, per modality, validation scores of several runs over the operations they spent.

    Args:
        progress: rows of each run: "tflop" since its first step, and a score per modality.
    """
    charts = []
    for modality, label in MODALITY_LABELS.items():
        colours = dict(zip(progress, CLASS_COLOURS, strict=False))
        found = {
            Line(run, run, colours[run]): curve
            for run, rows in progress.items()
            if (curve := logged_curve(rows, modality, scale=100, over="tflop"))
        }
        if found:
            charts.append(
                line_chart(
                    found,
                    title=f"Validation score, {label}",
                    name="Runs",
                    marker="o",
                    axis_label="TFLOP, pre-training included",
                )
            )
    return charts
