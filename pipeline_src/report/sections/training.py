"""Section of the training curves, and where the weights of a run come from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline_src.catalog import paths
from pipeline_src.modalities import MODALITIES
from pipeline_src.report.blocks import (
    HEAD_LABELS,
    MAX_DETAILED,
    Block,
    Cell,
    Chart,
    Charts,
    Collapsible,
    PageSection,
    Table,
    Text,
    duration_text,
    left_out_text,
    number_text,
)
from pipeline_src.report.charts import Line, Row, line_chart, logged_curve
from pipeline_src.report.colours import HEAD_COLOURS, NEUTRAL_COLOUR, TEXT_COLOUR
from pipeline_src.report.load import Problems, read_rows, read_run_config
from pipeline_src.runs.history import METRICS_LOG_FILE

Stage = Literal["pretrain", "finetune"]
STAGE_LABELS: dict[Stage, str] = {"pretrain": "Pre-training", "finetune": "Fine-tuning"}


class WeightsOrigin(NamedTuple):
    """Of one stage of a run.

    ``kind``: own = trained by this run; other = by the run ``name``; converted = from the folder
    ``name`` that the converter wrote; none = the run has no such stage.
    """

    kind: Literal["own", "other", "converted", "none"]
    name: str = ""


def weights_origin(sections: Mapping[str, Any], stage: Stage) -> WeightsOrigin:
    """Read from a run's config.yaml who trained ``stage``."""
    pretrain, finetune = (sections.get(name) or {} for name in ("pretrain", "finetune"))
    if stage == "finetune":
        folder = finetune.get("checkpoint")
        return WeightsOrigin("converted", folder) if folder else WeightsOrigin("own")
    if finetune.get("checkpoint_run"):
        return WeightsOrigin("other", finetune["checkpoint_run"])
    if folder := pretrain.get("checkpoint"):
        return WeightsOrigin("converted", folder)
    is_skipped = finetune.get("init") == "scratch" or finetune.get("checkpoint")
    return WeightsOrigin("none") if is_skipped else WeightsOrigin("own")


def stage_folder(run_dir: Path, stage: Stage, dataset: str) -> Path:
    """Return where a run of its own trains ``stage``."""
    pattern = paths.PRETRAINED if stage == "pretrain" else paths.FINETUNED
    done = paths.fill(pattern, run_dir.parent, run=run_dir.name, dataset=dataset)
    return Path(done).parent


def stage_title(run_dir: Path, stage: Stage, dataset: str) -> str:
    """Name a training for the page, e.g. "Fine-tuning, avsiam_tiny / avdigits"."""
    name = f"{run_dir.name} / {dataset}" if dataset else run_dir.name
    return f"{STAGE_LABELS[stage]}, {name}"


TRAINING_LEAD = (
    "From each training\u2019s metrics.jsonl; long curves are drawn as means over equal runs of "
    "rows. Feature spread is the standard deviation of unit embeddings over clips: near 0, all "
    "clips share one vector."
)
CONVERTED_TEXT = (
    "Nothing was trained here: the weights were converted from elsewhere. {folder} holds them, and "
    "conversion.json, which names their file and the outcome of each key."
)


def training_section(
    run_dirs: Sequence[Path],
    finetunings: Sequence[tuple[Path, str]],
    overlays: Sequence[Block] = (),
) -> PageSection:
    """Show curves of all runs over each other, then of every pre-training and fine-tuning.

    Args:
        run_dirs: results/<run> of every run on the page.
        finetunings: the same folder and a data set, once per fine-tuning.
    """
    section = PageSection("training", "Training", TRAINING_LEAD, list(overlays))
    shown = run_dirs[:MAX_DETAILED]
    found = [_training_part(section.problems, run_dir, "pretrain") for run_dir in shown]
    found += [
        _training_part(section.problems, run_dir, "finetune", name)
        for run_dir, name in finetunings
        if run_dir in shown
    ]
    parts = [part for part in found if part is not None]
    opened = {part.title.split(",")[0]: part.title for part in reversed(parts)}
    section.blocks += [
        Collapsible(part.title, part.blocks, is_open=not overlays and part.title in opened.values())
        for part in parts
    ]
    if len(shown) < len(run_dirs):
        section.blocks.append(Text(left_out_text(len(run_dirs), METRICS_LOG_FILE)))
    return section


def _training_part(
    problems: Problems, run_dir: Path, stage: Stage, dataset: str = ""
) -> Collapsible | None:
    """Show curves of one training, or where its weights come from; None where there is none."""
    title = stage_title(run_dir, stage, dataset)
    loaded = problems.attempt(lambda: read_run_config(run_dir))
    origin = weights_origin(loaded[1], stage) if loaded else WeightsOrigin("own")
    if origin.kind == "converted":
        return Collapsible(title, [Text(CONVERTED_TEXT.format(folder=origin.name))])
    if origin.kind != "own":
        return None
    path = stage_folder(run_dir, stage, dataset) / METRICS_LOG_FILE
    rows = problems.attempt(lambda: read_rows(path, f"the rule {stage}_model"))
    if rows is None:
        return None
    return Collapsible(title, _curve_blocks(problems, rows, title, is_scored=stage == "finetune"))


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
    return [_clock_table(rows), Charts(charts)]


def _clock_table(rows: Sequence[dict[str, Any]]) -> Table:
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
    return Table(
        "Steps and time", ["Steps", "Epochs", "Clips seen", "Time", "Clips per second"], [cells]
    )


class Panel(NamedTuple):
    """One chart of a training."""

    title: str
    lines: tuple[Line, ...]
    is_optional: bool = False  # most trainings log none of it


def _modality_lines(pattern: str) -> tuple[Line, ...]:
    return tuple(
        Line(pattern.format(name), HEAD_LABELS[name], HEAD_COLOURS[name]) for name in MODALITIES
    )


TOTAL = Line("loss", "total", TEXT_COLOUR)
GRADIENT_PANEL = Panel(
    "Gradient norm, before clipping",
    (
        Line("grad_norm", "all losses", TEXT_COLOUR),
        Line("grad_norm_contrast", "contrast", HEAD_COLOURS["audio_video"]),
        Line("grad_norm_reconstruct", "reconstruction", NEUTRAL_COLOUR),
    ),
)
PRETRAIN_PANELS = (
    Panel("Total loss", (TOTAL,)),
    Panel("Contrastive loss", (Line("contrast_loss", "contrast", HEAD_COLOURS["audio_video"]),)),
    Panel(
        "Reconstruction loss",
        (
            *_modality_lines("{}_reconstruct_loss"),
            Line("reconstruct_loss", "together", NEUTRAL_COLOUR),
        ),
    ),
    Panel("Feature spread", _modality_lines("{}_spread")),
    Panel(
        "Contrastive accuracy in the batch",
        (Line("contrast_accuracy", "contrast", HEAD_COLOURS["audio_video"]),),
    ),
    GRADIENT_PANEL,
    Panel(
        "Mask ratio",
        (
            *_modality_lines("{}_ratio"),
            Line("contrast_ratio", "contrast, mean", HEAD_COLOURS["audio_video"]),
        ),
        is_optional=True,
    ),
    Panel("Clips per step", (Line("batch_size", "all ranks", NEUTRAL_COLOUR),), is_optional=True),
)
FINETUNE_PANELS = (Panel("Training loss", (TOTAL,)), GRADIENT_PANEL)


def training_charts(
    rows: Sequence[Row], panels: Sequence[Panel], *, name: str
) -> tuple[list[Chart], list[str]]:
    """Draw a chart per panel whose quantities were logged; return the titles of the others too."""
    charts, absent = [], []
    for panel in panels:
        curves = {line: curve for line in panel.lines if (curve := logged_curve(rows, line.key))}
        if curves:
            charts.append(line_chart(curves, title=panel.title, name=name))
        elif not panel.is_optional:
            absent.append(panel.title)
    return charts, absent


def validation_chart(rows: Sequence[Row], *, name: str) -> Chart | None:
    """Draw validation scores by modality over epochs; None where none was logged."""
    scored = [
        {"epoch": row["epoch"], **row["val"]} for row in rows if isinstance(row.get("val"), dict)
    ]
    lines = [Line(key, label, HEAD_COLOURS[key]) for key, label in HEAD_LABELS.items()]
    curves = {line: curve for line in lines if (curve := logged_curve(scored, line.key, scale=100))}
    if not curves:
        return None
    return line_chart(curves, title="Validation score, per cent", name=name, marker="o")
