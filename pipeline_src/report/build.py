"""Build ``report/index.html``: one self-contained page of everything that a reader should see.

Inputs that are missing or damaged never stop the page: the section says what is missing and which
rule writes it.
"""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipeline_src.evaluate.records import (
    EvalMetrics,
    FoldMetrics,
    ProbeMetrics,
    Record,
    read_record,
)
from pipeline_src.report.anchors import Anchors
from pipeline_src.report.arms import EVAL_RULE, ArmFigures, find_arms
from pipeline_src.report.blocks import Overview, PageSection
from pipeline_src.report.colours import palette_css
from pipeline_src.report.download import csv_uri
from pipeline_src.report.load import Problems, SplitIndex, plain, read_benchmarks, results_root
from pipeline_src.report.sections.classification import (
    FOLDS_RULE,
    classification_section,
    folds_section,
)
from pipeline_src.report.sections.inventory import (
    coverage_section,
    provenance_section,
    timing_section,
)
from pipeline_src.report.sections.methods import methods_section
from pipeline_src.report.sections.overview import make_overview
from pipeline_src.report.sections.predictions import predictions_section
from pipeline_src.report.sections.pretraining import PROBE_RULE, evidence_section
from pipeline_src.report.sections.progress import overlay_blocks
from pipeline_src.report.sections.retrieval import retrieval_section
from pipeline_src.report.sections.training import training_section
from pipeline_src.system.atomic import write_text

logger = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parent / "templates"
TITLE = "Audio-visual pipeline: report"


class ReportSettings(Protocol):
    """The values of the configuration's ``report`` section."""

    @property
    def num_examples(self) -> int: ...
    @property
    def tsne_clips(self) -> int: ...


def build_report(
    *,
    metrics_files: Sequence[Path],
    fold_files: Sequence[Path] = (),
    probe_files: Sequence[Path],
    index_files: Sequence[Path],
    output: Path,
    config: ReportSettings,
) -> None:
    """Write the page, atomically.

    Args:
        metrics_files: results/<run>/eval/<dataset>/metrics.json, in the order they are to appear;
            predictions.npz, embeddings.npz, metrics.jsonl and config.yaml are found from them.
        fold_files: results/<run>/folds/<dataset>/metrics.json.
        probe_files: results/<run>/probe/<dataset>/metrics.json; reconstructions.npz lies beside.
        index_files: results/<dataset>/shards/<split>/index.json.

    Raises:
        StageError: no input at all was named.
    """
    root = results_root([*metrics_files, *fold_files, *probe_files, *index_files])
    problems = Problems()
    evaluations = read_all(problems, metrics_files, EvalMetrics, EVAL_RULE)
    probes = read_all(problems, probe_files, ProbeMetrics, PROBE_RULE)
    indexes = read_all(problems, index_files, SplitIndex, "the rule pack_index")
    folds = [record for _, record in read_all(problems, fold_files, FoldMetrics, FOLDS_RULE)]
    records = [record for _, record in evaluations]
    probe_records = [record for _, record in probes]
    splits = [record for _, record in indexes]
    run_dirs = [root / name for name in _run_names([*metrics_files, *fold_files, *probe_files])]
    finetunings = [(path.parents[2], path.parent.name) for path in metrics_files]
    is_scored = bool(metrics_files) or not (probe_files or fold_files)
    arms, figures = find_arms(problems, evaluations), ArmFigures()
    methods = methods_section(arms, figures, probe_records)
    sections = [
        *([methods] if methods else []),
        *([folds_section(folds)] if folds else []),
        *([classification_section(records), retrieval_section(records)] if is_scored else []),
        evidence_section(probes, config.num_examples),
        training_section(run_dirs, finetunings, overlay_blocks(arms)),
        *([predictions_section(evaluations, indexes, config.tsne_clips)] if is_scored else []),
        coverage_section(splits),
        timing_section(read_benchmarks(root), records, probe_records),
        provenance_section(records or probe_records, run_dirs),
    ]
    overview = make_overview(problems, arms, figures, probe_records, splits, date_of_making())
    page = render_page(sections, overview=overview, problems=problems.messages)
    page = plain(page)  # names come from lists and files of others
    write_text(output, page)
    logger.info("wrote %s, %d bytes", output, len(page))


def read_all(
    problems: Problems, files: Sequence[Path], kind: type[Record], written_by: str
) -> list[tuple[Path, Record]]:
    """Read the readable files; each other one leaves a message."""
    loaded = []
    for path in files:
        record = problems.attempt(lambda path=path: read_record(path, kind, written_by))
        if record is not None:
            loaded.append((path, record))
    return loaded


def _run_names(files: Sequence[Path]) -> list[str]:
    return list(dict.fromkeys(path.parents[2].name for path in files))


def date_of_making() -> str:
    """Return today, or the day that SOURCE_DATE_EPOCH names where a page is made again, as UTC."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = time.gmtime(int(seconds)) if seconds.isdecimal() else time.gmtime()
    return time.strftime("%Y-%m-%d", moment)


def render_page(
    sections: Sequence[PageSection], *, overview: Overview, problems: Sequence[str]
) -> str:
    """Render HTML with style, script and pictures inside it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html.j2"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.globals |= {"anchors": Anchors(), "csv_uri": csv_uri}  # known inside macros
    return environment.get_template("page.html.j2").render(
        title=TITLE,
        light=palette_css("light"),
        dark=palette_css("dark"),
        style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
        sections=sections,
        overview=overview,
        problems=problems,
    )
