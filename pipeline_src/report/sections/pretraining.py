"""Section of what pre-training gave before any label was used."""

from collections.abc import Sequence
from pathlib import Path

from pipeline_src.errors import StageError
from pipeline_src.evaluate.files import RECONSTRUCTIONS_FILE
from pipeline_src.evaluate.records import Estimate, ProbeMetrics
from pipeline_src.report.blocks import (
    MISSING,
    MODALITY_LABELS,
    Block,
    Cell,
    Charts,
    Collapsible,
    ImageRows,
    Section,
    Table,
    Text,
    interval_cell,
)
from pipeline_src.report.charts import (
    MODALITY_COLOURS,
    NEUTRAL_COLOUR,
    IntervalPoint,
    SeriesStyle,
    interval_chart,
)
from pipeline_src.report.load import read_arrays
from pipeline_src.report.pictures import (
    ARRAY_NAMES,
    DENOISED_NAMES,
    reconstruction_rows,
    rows_caption,
)
from pipeline_src.report.sections.retrieval import report_ties, retrieval_table, score_table
from pipeline_src.report.similarity import CAPTION as SIMILARITY_CAPTION
from pipeline_src.report.similarity import SIMILARITY, similarity_charts

PROBE_RULE = "the rule evaluate_pretrained"
PROBES = {"linear": "linear", "knn": "k-NN", "attentive": "attentive"}
PROBE_STYLES = {
    "untrained": SeriesStyle("untrained", NEUTRAL_COLOUR, is_hollow=True),
    "pretrained": SeriesStyle("pre-trained", MODALITY_COLOURS["audio"]),
}
EVIDENCE_LEAD = (
    "Measured on held-out clips with the encoder frozen as pre-training left it, beside the same "
    "encoder with its initial random weights. Only the probes use labels. \u201cApart\u201d: the "
    "two 95 % intervals do not overlap. Mean patch and mean at "
    "its place: of the training clips, over all places and at each."
)


def evidence_section(probes: Sequence[tuple[Path, ProbeMetrics]], num_examples: int) -> Section:
    """Show reconstruction error, probes, retrieval and example clips of each pre-training."""
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
        section.blocks += (
            blocks if is_only else [Collapsible(probe.name, blocks, probe is probes[0][1])]
        )
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
        blocks += [score_table(one, name) for name, one in known.items() if one.by_score]
        for name, retrieval in known.items():
            report_ties(section, f"{probe.name}, {name}", retrieval)
    for name in retrievals.keys() - known.keys():
        section.problems.add(f"{probe.name}: no retrieval figures of the {name} encoder")
    if probe.is_retrieval_only:
        return blocks
    pictures = section.problems.attempt(lambda: _read_pictures(path, probe, num_examples))
    return [*blocks, *(pictures or ())]


def _labelled_blocks(section: Section, probe: ProbeMetrics) -> list[Block]:
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
    """Say whether two intervals are apart, and in the right order, ``better`` being higher."""
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
            if ours is None:
                continue
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
    points = [
        IntervalPoint(f"{MODALITY_LABELS[modality]}, {label}", state, interval)
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
    """Show a few held-out clips: reconstructions, and where their sound and frames agree."""
    arrays_path = path.with_name(RECONSTRUCTIONS_FILE)
    optional = (*DENOISED_NAMES, SIMILARITY)
    arrays = read_arrays(arrays_path, ARRAY_NAMES, PROBE_RULE, optional=optional)
    try:
        rows = reconstruction_rows(arrays, num_examples)
        maps: list[Block] = []
        if SIMILARITY in arrays:
            charts = similarity_charts(arrays[SIMILARITY], list(arrays["clip_ids"]), num_examples)
            maps = [Text(SIMILARITY_CAPTION), charts]
    except ValueError as error:
        raise StageError(f"{probe.name}: reconstructions.npz cannot be shown: {error}") from error
    if not rows:
        return maps
    return [ImageRows(f"Held-out clips, {probe.name}: {rows_caption(arrays)}", rows), *maps]
