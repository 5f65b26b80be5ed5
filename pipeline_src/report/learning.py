"""Sections about learning: what pre-training gave before any label, and the training curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_src.errors import StageError
from pipeline_src.evaluate.files import RECONSTRUCTIONS_FILE
from pipeline_src.evaluate.records import Estimate, ProbeMetrics
from pipeline_src.report.blocks import (
    MISSING,
    MODALITY_LABELS,
    Block,
    Cell,
    Charts,
    Fold,
    Section,
    Strips,
    Table,
    Text,
    duration_text,
    interval_cell,
    number_text,
)
from pipeline_src.report.curves import (
    FINETUNE_PANELS,
    PRETRAIN_PANELS,
    training_charts,
    validation_chart,
)
from pipeline_src.report.drawing import MODALITY_COLOURS, NEUTRAL_COLOUR
from pipeline_src.report.examples import (
    ARRAY_NAMES,
    DENOISED_NAMES,
    reconstruction_strips,
    strips_caption,
)
from pipeline_src.report.load import Problems, read_arrays, read_rows, read_run_config
from pipeline_src.report.results import report_ties, retrieval_table
from pipeline_src.report.trainings import Origin, Stage, stage_folder, stage_title, training_origin
from pipeline_src.report.whiskers import Look, Whisker, whisker_chart
from pipeline_src.runs.history import METRICS_LOG_FILE

PROBE_RULE = "the rule evaluate_pretrained"
PROBES = {"linear": "linear", "knn": "k-NN"}
PROBE_LOOKS = {
    "untrained": Look("untrained", NEUTRAL_COLOUR, is_hollow=True),
    "pretrained": Look("pre-trained", MODALITY_COLOURS["audio"]),
}
EVIDENCE_LEAD = (
    "Measured on held-out clips with the encoder frozen as pre-training left it, beside the same "
    "encoder with its initial random weights. Only the probes use labels. \u201cApart\u201d: the "
    "two 95 % intervals do not overlap. Mean patch and mean at "
    "its place: of the training clips, over all places and at each."
)
TRAINING_LEAD = (
    "From each training\u2019s metrics.jsonl; long curves are drawn as means over equal runs of "
    "rows. Feature spread is the standard deviation of unit embeddings over clips: near 0, all "
    "clips share one vector."
)
CONVERTED_TEXT = (
    "Nothing was trained here: the weights were converted from elsewhere. {folder} holds them, and "
    "conversion.json, which names their file and what became of each key."
)


def evidence_section(probes: Sequence[tuple[Path, ProbeMetrics]], num_examples: int) -> Section:
    """Reconstruction error, probes, retrieval and example clips of each pre-training."""
    section = Section("pretraining", "Pre-training without labels", EVIDENCE_LEAD)
    if not probes:
        section.problems.add(
            f"No probe of a pre-trained encoder was given: {PROBE_RULE} writes "
            "<run>/probe/<dataset>/metrics.json"
        )
    for path, probe in probes:
        for text in probe.warnings:
            section.problems.add(f"{probe.name}: its checkpoint {text}")
        blocks = _evidence_blocks(section, path, probe, num_examples)
        is_only = len(probes) == 1
        section.blocks += blocks if is_only else [Fold(probe.name, blocks, probe is probes[0][1])]
    return section


def _evidence_blocks(
    section: Section, path: Path, probe: ProbeMetrics, num_examples: int
) -> list[Block]:
    if "video" not in probe.modalities:
        return [_probe_table(probe), *_probe_chart(probe)]
    blocks = [] if probe.is_retrieval_only else _labelled_blocks(section, probe)
    retrievals = {"pre-trained": probe.retrieval, "untrained": probe.retrieval_untrained}
    known = {name: value for name, value in retrievals.items() if value is not None}
    if known:
        blocks.append(retrieval_table(known, caption=f"Retrieval before fine-tuning, {probe.name}"))
        for name, retrieval in known.items():
            report_ties(section, f"{probe.name}, {name}", retrieval)
    for name in retrievals.keys() - known.keys():
        section.problems.add(f"{probe.name}: no retrieval figures of the {name} encoder")
    if probe.is_retrieval_only:
        return blocks
    strips = section.problems.attempt(lambda: _read_strips(path, probe, num_examples))
    return [*blocks, strips] if strips and strips.strips else blocks


def _labelled_blocks(section: Section, probe: ProbeMetrics) -> list[Block]:
    """What needs training clips: reconstruction error and probes."""
    blocks: list[Block] = []
    if probe.reconstruction:
        blocks.append(_reconstruction_table(probe))
    else:
        section.problems.add(f"{probe.name}: no reconstruction error in the probe\u2019s metrics")
    if probe.probes:
        blocks += [_probe_table(probe), *_probe_chart(probe)]
    else:
        section.problems.add(f"{probe.name}: no probe scores in the probe\u2019s metrics")
    return blocks


def _reconstruction_table(probe: ProbeMetrics) -> Table:
    rows = []
    for modality, error in probe.reconstruction.items():
        rows.append([
            Cell(MODALITY_LABELS[modality]),
            interval_cell(error.model, digits=3),
            interval_cell(error.mean_patch, digits=3),
            _apart_cell(error.mean_patch, error.model),
            interval_cell(error.mean_position, digits=3),
            _apart_cell(error.mean_position, error.model),
        ])  # fmt: skip
    head = ["Input", "Model, MSE", "Mean patch, MSE", "Intervals"]
    head += ["Mean at its place, MSE", "Intervals"]
    return Table(f"Error on hidden patches of held-out clips, {probe.name}", head, rows)


def _apart_cell(better: Estimate | None, worse: Estimate | None) -> Cell:
    """Whether two intervals are apart, and the right way round, given what should be the higher."""
    if better is None or worse is None or not (better.has_bounds and worse.has_bounds):
        return Cell(MISSING, tone="muted")
    if better.lies_above(worse):
        return Cell("apart", tone="good")
    return Cell("apart, worse", tone="warn") if worse.lies_above(better) else Cell("overlap")


def _probe_table(probe: ProbeMetrics) -> Table:
    trained, untrained = (probe.probes.get(key, {}) for key in ("pretrained", "untrained"))
    rows = []
    for modality, scores in trained.items():
        base = untrained.get(modality)
        for key, label in PROBES.items():
            ours = getattr(scores, key)
            theirs = getattr(base, key) if base else None
            rows.append([
                Cell(MODALITY_LABELS[modality]),
                Cell(label),
                Cell(scores.metric),
                interval_cell(ours, scale=100),
                interval_cell(theirs, scale=100),
                _apart_cell(ours, theirs),
            ])  # fmt: skip
    head = ["Input", "Probe", "Metric", "Pre-trained, %", "Untrained, %", "Intervals"]
    return Table(f"Probes of the frozen encoder, {probe.name}", head, rows)


def _probe_chart(probe: ProbeMetrics) -> list[Block]:
    whiskers = [
        Whisker(f"{MODALITY_LABELS[modality]}, {label}", state, interval)
        for state, by_modality in probe.probes.items()
        for modality, scores in by_modality.items()
        for key, label in PROBES.items()
        if (interval := getattr(scores, key)) is not None
    ]
    if not whiskers:
        return []
    title = f"Probes, {probe.name}"
    return [
        Charts([whisker_chart(whiskers, PROBE_LOOKS, title=title, axis_label="score, %")], True)
    ]


def _read_strips(path: Path, probe: ProbeMetrics, num_examples: int) -> Strips:
    arrays_path = path.with_name(RECONSTRUCTIONS_FILE)
    arrays = read_arrays(arrays_path, ARRAY_NAMES, PROBE_RULE, optional=DENOISED_NAMES)
    try:
        strips = reconstruction_strips(arrays, num_examples)
    except ValueError as error:
        raise StageError(f"{probe.name}: reconstructions.npz cannot be shown: {error}") from error
    return Strips(f"Held-out clips, {probe.name}: {strips_caption(arrays)}", strips)


def training_section(run_dirs: Sequence[Path], finetunings: Sequence[tuple[Path, str]]) -> Section:
    """Curves of every pre-training and fine-tuning.

    Args:
        run_dirs: results/<run> of every run on the page.
        finetunings: the same folder and a data set, once per fine-tuning.
    """
    section = Section("training", "Training", TRAINING_LEAD)
    folds = [_stage_fold(section.problems, run_dir, "pretrain") for run_dir in run_dirs]
    folds += [
        _stage_fold(section.problems, run_dir, "finetune", name) for run_dir, name in finetunings
    ]
    shown = [fold for fold in folds if fold is not None]
    opened = {fold.title.split(",")[0]: fold.title for fold in reversed(shown)}
    section.blocks += [
        Fold(fold.title, fold.blocks, is_open=fold.title in opened.values()) for fold in shown
    ]
    return section


def _stage_fold(problems: Problems, run_dir: Path, stage: Stage, dataset: str = "") -> Fold | None:
    """Curves of one training, or where its weights come from; None where there is none."""
    title = stage_title(run_dir, stage, dataset)
    loaded = problems.attempt(lambda: read_run_config(run_dir))
    origin = training_origin(loaded[1], stage) if loaded else Origin("own")
    if origin.kind == "converted":
        return Fold(title, [Text(CONVERTED_TEXT.format(folder=origin.name))])
    if origin.kind != "own":
        return None
    path = stage_folder(run_dir, stage, dataset) / METRICS_LOG_FILE
    rows = problems.attempt(lambda: read_rows(path, f"the rule {stage}_model"))
    if rows is None:
        return None
    return Fold(title, _curve_blocks(problems, rows, title, is_scored=stage == "finetune"))


def _curve_blocks(
    problems: Problems, rows: Sequence[dict[str, Any]], name: str, *, is_scored: bool
) -> list[Block]:
    panels = FINETUNE_PANELS if is_scored else PRETRAIN_PANELS
    charts, absent = training_charts(rows, panels, name=name)
    if is_scored:
        validation = validation_chart(rows, name=name)
        if validation:
            charts.insert(1, validation)
        else:
            absent.append("validation score")
    if absent:
        problems.add(f"{name}: nothing was logged for {', '.join(absent).lower()}")
    return [_clock_table(rows, name), Charts(charts)]


def _clock_table(rows: Sequence[dict[str, Any]], name: str) -> Table:
    last = {key: value for row in rows for key, value in row.items()}  # the last of each key
    seconds, clips = last.get("seconds"), last.get("samples_seen")
    rate = clips / seconds if clips and seconds else None
    cells = [
        Cell(f"{last['step']:,}", is_number=True),
        Cell(number_text(last.get("epoch")), is_number=True),
        Cell(f"{clips:,}" if clips else number_text(None), is_number=True),
        Cell(duration_text(seconds) if seconds else number_text(None), is_number=True),
        Cell(number_text(rate), is_number=True),
    ]
    return Table(name, ["Steps", "Epochs", "Clips seen", "Time", "Clips per second"], [cells])
