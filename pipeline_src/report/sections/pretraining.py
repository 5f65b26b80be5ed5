"""Section of what pre-training gave before any label was used."""

from collections.abc import Sequence
from pathlib import Path

from pipeline_src.errors import StageError
from pipeline_src.evaluate.files import METRICS_FILE, RECONSTRUCTIONS_FILE, RETRIEVAL_FILE
from pipeline_src.evaluate.records import Estimate, ProbeMetrics
from pipeline_src.report.blocks import (
    HEAD_LABELS,
    MAX_DETAILED,
    Block,
    Cell,
    Charts,
    Collapsible,
    ImageRows,
    PageSection,
    Table,
    Text,
    interval_cell,
    left_out_text,
)
from pipeline_src.report.charts import IntervalPoint, SeriesStyle, interval_chart
from pipeline_src.report.colours import HEAD_COLOURS, NEUTRAL_COLOUR
from pipeline_src.report.load import read_arrays
from pipeline_src.report.pictures import (
    ARRAY_NAMES,
    DENOISED_NAMES,
    reconstruction_rows,
    rows_caption,
)
from pipeline_src.report.sections.retrieval import report_ties, retrieval_table, score_table
from pipeline_src.report.similarity import CAPTION as SIMILARITY_CAPTION
from pipeline_src.report.similarity import SHOWN_IDS, SIMILARITY, similarity_charts

PROBE_RULE = "the rule evaluate_pretrained"
PROBES = {"linear": "linear", "knn": "k-NN", "attentive": "attentive"}
PROBE_STYLES = {
    "untrained": SeriesStyle("untrained", NEUTRAL_COLOUR, is_hollow=True),
    "pretrained": SeriesStyle("pre-trained", HEAD_COLOURS["audio"]),
}
EVIDENCE_LEAD = (
    "Measured on held-out clips with the encoder frozen as pre-training left it, beside the same "
    "network before any step: its random weights, or the image weights that model.init names "
    "(untrained). Only the probes use labels. Differences are of the "
    "same clips, with 95 % intervals of a paired bootstrap. Mean patch and mean at "
    "its place: of the training clips, over all places and at each."
)


def evidence_section(probes: Sequence[tuple[Path, ProbeMetrics]], num_examples: int) -> PageSection:
    """Show reconstruction error, probes, retrieval and example clips of each pre-training."""
    section = PageSection("pretraining", "Pre-training without labels", EVIDENCE_LEAD)
    if not probes:
        section.problems.add(
            f"No probe of a pre-trained encoder was given: {PROBE_RULE} writes "
            "<run>/probe/<dataset>/metrics.json"
        )
    for path, probe in probes[:MAX_DETAILED]:
        for text in probe.warnings:
            section.problems.add(f"{probe.name}: its checkpoint {text}")
        blocks = _evidence_blocks(section, path, probe, num_examples)
        is_only = len(probes) == 1
        section.blocks += (
            blocks if is_only else [Collapsible(probe.name, blocks, probe is probes[0][1])]
        )
    if len(probes) > MAX_DETAILED:
        section.blocks.append(Text(left_out_text(len(probes), METRICS_FILE)))
    return section


def _evidence_blocks(
    section: PageSection, path: Path, probe: ProbeMetrics, num_examples: int
) -> list[Block]:
    if "video" not in probe.modalities:
        return [_probe_table(probe), *_probe_chart(probe)]
    blocks = [] if probe.is_retrieval_only else _labelled_blocks(section, probe)
    retrievals = {"pre-trained": probe.retrieval, "untrained": probe.retrieval_untrained}
    known = {name: value for name, value in retrievals.items() if value is not None}
    if known:
        blocks.append(retrieval_table(known, caption=f"Retrieval before fine-tuning, {probe.name}"))
        blocks += [score_table(one, name) for name, one in known.items() if one.by_score]
        for name, retrieval in known.items():
            report_ties(section, f"{probe.name}, {name}", retrieval)
    for name in retrievals.keys() - known.keys():
        section.problems.add(f"{probe.name}: no retrieval figures of the {name} encoder")
    readers = [] if probe.is_retrieval_only else [_read_pictures]
    readers += [_read_maps] if probe.retrieval and probe.retrieval.by_score else []
    for read in readers:
        blocks += section.problems.attempt(lambda r=read: r(path, probe, num_examples)) or ()
    return blocks


def _labelled_blocks(section: PageSection, probe: ProbeMetrics) -> list[Block]:
    """Show what needs training clips: reconstruction error and probes."""
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
            Cell(HEAD_LABELS[modality]),
            interval_cell(error.model, digits=3),
            interval_cell(error.mean_patch, digits=3),
            _gain_cell(error.below_mean_patch, digits=3),
            interval_cell(error.mean_position, digits=3),
            _gain_cell(error.below_mean_position, digits=3),
        ])  # fmt: skip
    head = ["Input", "Model, MSE", "Mean patch, MSE", "Model below it"]
    head += ["Mean at its place, MSE", "Model below it"]
    return Table(f"Error on hidden patches of held-out clips, {probe.name}", head, rows)


def _gain_cell(gain: Estimate | None, *, scale: float = 1, digits: int = 1) -> Cell:
    """Write a difference over its interval, marked where that leaves 0 out."""
    tone = "good" if gain and gain.is_gain else "warn" if gain and gain.is_loss else ""
    return interval_cell(gain, scale=scale, digits=digits, tone=tone)


def _probe_table(probe: ProbeMetrics) -> Table:
    trained, untrained = (probe.probes.get(key, {}) for key in ("pretrained", "untrained"))
    rows = []
    for modality, scores in trained.items():
        base = untrained.get(modality)
        for key, label in PROBES.items():
            ours = getattr(scores, key)
            if ours is None:
                continue
            theirs = getattr(base, key) if base else None
            rows.append([
                Cell(HEAD_LABELS[modality]),
                Cell(label, sub=_grid_note(ours)),
                Cell(scores.metric),
                interval_cell(ours, scale=100),
                interval_cell(theirs, scale=100),
                _gain_cell(ours.over_untrained if ours else None, scale=100),
            ])  # fmt: skip
    head = ["Input", "Probe", "Metric", "Pre-trained, %", "Untrained, %", "Difference"]
    return Table(f"Probes of the frozen encoder, {probe.name}", head, rows)


def _grid_note(probe: Estimate | None) -> str:
    """Say where the best regularisation is the last that was tried."""
    return "strength at its grid\u2019s end" if getattr(probe, "is_at_grid_end", False) else ""


def _probe_chart(probe: ProbeMetrics) -> list[Block]:
    points = [
        IntervalPoint(f"{HEAD_LABELS[modality]}, {label}", state, interval)
        for state, by_modality in probe.probes.items()
        for modality, scores in by_modality.items()
        for key, label in PROBES.items()
        if (interval := getattr(scores, key)) is not None
    ]
    if not points:
        return []
    title = f"Probes, {probe.name}"
    return [
        Charts([interval_chart(points, PROBE_STYLES, title=title, axis_label="score, %")], True)
    ]


def _read_pictures(path: Path, probe: ProbeMetrics, num_examples: int) -> list[Block]:
    """Show reconstructions of a few held-out clips.

    Raises:
        StageError: the arrays are missing or cannot be shown.
    """
    arrays_path = path.with_name(RECONSTRUCTIONS_FILE)
    arrays = read_arrays(arrays_path, ARRAY_NAMES, PROBE_RULE, optional=DENOISED_NAMES)
    try:
        rows = reconstruction_rows(arrays, num_examples)
    except ValueError as error:
        raise StageError(f"{probe.name}: {arrays_path.name} cannot be shown: {error}") from error
    return (
        [ImageRows(f"Held-out clips, {probe.name}: {rows_caption(arrays)}", rows)] if rows else []
    )


def _read_maps(path: Path, probe: ProbeMetrics, num_examples: int) -> list[Block]:
    """Show where sound and frames of a few held-out clips agree.

    Raises:
        StageError: the arrays are missing or cannot be shown.
    """
    arrays_path = path.with_name(RETRIEVAL_FILE)
    arrays = read_arrays(arrays_path, (SIMILARITY, SHOWN_IDS), PROBE_RULE)
    try:
        charts = similarity_charts(arrays[SIMILARITY], list(arrays[SHOWN_IDS]), num_examples)
    except ValueError as error:
        raise StageError(f"{probe.name}: {arrays_path.name} cannot be shown: {error}") from error
    return [Text(SIMILARITY_CAPTION), charts]
