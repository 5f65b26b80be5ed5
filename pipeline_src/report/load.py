"""Read what earlier stages wrote. Every failure is a ``StageError`` that names file and next step.

The page collects those messages (``Problems``) and shows them where the content is missing.
"""

import csv
import json
import logging
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel

from pipeline_src.catalog import paths
from pipeline_src.errors import StageError
from pipeline_src.evaluate.records import ROOT_DEPTH, read_text, short_path

MAX_PROBLEM_CHARS = 600
STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
logger = logging.getLogger(__name__)

Value = TypeVar("Value")
Arrays = dict[str, NDArray[Any]]


class TrainingCost(BaseModel):
    """What a training cost, counted: see ``pipeline_src.train.measure``."""

    parameters: int
    flops: float
    memory_bytes: float


class TrainingDone(BaseModel):
    """done.json of one training; without cost where nothing was trained, or by an older version."""

    step: int
    samples_seen: int
    seconds: float
    cost: TrainingCost | None = None


class SplitIndex(BaseModel):
    """index.json of one split's shards."""

    dataset: str
    split: str
    class_names: list[str]
    num_clips: int
    num_clips_in_list: int
    clip_ids_sha256: str = ""
    reasons: dict[str, int] = {}
    flags: dict[str, int] = {}
    excludes_duplicates: bool = False
    duplicates: list[tuple[str, str, str]] = []  # clip_id, split and clip_id of the earlier one
    shared_files: dict[str, int] = {}  # clips whose file has clips in this split too


class BenchmarkRow(NamedTuple):
    """One rule's jobs as Snakemake timed them."""

    rule: str
    num_jobs: int
    seconds: float
    max_rss_megabytes: float


def plain(text: str) -> str:
    """Replace characters that steer a terminal, turn a page around or cannot be written."""
    return STEERING.sub("\ufffd", text)


class Problems:
    """Messages about inputs of one section that are missing or damaged."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Keep a message for the page, once, and log it."""
        message = plain(message)
        if len(message) > MAX_PROBLEM_CHARS:
            message = f"{message[:MAX_PROBLEM_CHARS]} ... ({len(message)} characters)"
        if message not in self.messages:
            logger.warning("report: %s", message)
            self.messages.append(message)

    def attempt(self, load: Callable[[], Value]) -> Value | None:
        """Return what ``load`` returns; None, and its message kept, where the input is unusable."""
        try:
            return load()
        except StageError as error:
            self.add(str(error))
            return None


def results_root(files: Sequence[Path]) -> Path:
    """Return the folder that all inputs lie under.

    Raises:
        StageError: there is no input.
    """
    if not files:
        raise StageError("nothing to report: no metrics.json, probe or index.json was given")
    return files[0].parents[ROOT_DEPTH]


def read_rows(path: Path, written_by: str) -> list[dict[str, Any]]:
    """Read metrics.jsonl in step order, without a line cut off by a kill and repeated steps.

    Training and validation rows share steps, so rows are keyed by step and kind.

    Raises:
        StageError: it cannot be read, or no row is whole.
    """
    rows: dict[tuple[int, bool], dict[str, Any]] = {}
    for line in read_text(path, written_by).splitlines():
        try:
            row = json.loads(line)
            rows[int(row["step"]), "val" in row] = row
        except (ValueError, KeyError, TypeError):
            logger.warning("report: %s: skipped an incomplete line", short_path(path))
    if not rows:
        raise StageError(f"{short_path(path)} holds no complete row: run {written_by} again")
    return [rows[key] for key in sorted(rows)]


def read_arrays(
    path: Path, names: Sequence[str], written_by: str, *, optional: Sequence[str] = ()
) -> Arrays:
    """Read the named arrays of an .npz, (N, ...) each, and those of ``optional`` that it holds.

    Raises:
        StageError: it is damaged, lacks one, or their lengths differ.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [name for name in names if name not in stored.files]
            if missing:
                raise StageError(
                    f"{short_path(path)} lacks {', '.join(missing)}: run {written_by} again"
                )
            found = [*names, *(name for name in optional if name in stored.files)]
            arrays = {name: stored[name] for name in found}
    except FileNotFoundError:
        raise StageError(f"{short_path(path)} is not there: {written_by} writes it") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StageError(f"{short_path(path)} is damaged ({error}): run {written_by} again") from (
            error
        )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise StageError(f"{short_path(path)}: unequal lengths {lengths}: run {written_by} again")
    return arrays


def read_run_config(run_dir: Path) -> tuple[str, dict[str, Any]]:
    """Read a run's config.yaml as text and as sections.

    Raises:
        StageError: it cannot be read.
    """
    path = Path(paths.fill(paths.RUN_CONFIG, run_dir.parent, run=run_dir.name))
    text = read_text(path, "the rule resolve_config")
    try:
        sections = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StageError(f"{short_path(path)} is not YAML: {error}") from error
    if not isinstance(sections, dict):
        raise StageError(f"{short_path(path)} holds no sections")
    return text, sections


def read_benchmarks(root: Path) -> list[BenchmarkRow]:
    """Sum Snakemake's timings below ``benchmarks/<rule>/`` per rule; none is fine."""
    rows = []
    for folder in sorted(path for path in (root / "benchmarks").glob("*") if path.is_dir()):
        jobs = [_read_benchmark(path) for path in sorted(folder.rglob("*.tsv"))]
        timed = [job for job in jobs if job is not None]
        if timed:
            seconds, peaks = zip(*timed, strict=True)
            rows.append(BenchmarkRow(folder.name, len(timed), sum(seconds), max(peaks)))
    return rows


def _read_benchmark(path: Path) -> tuple[float, float] | None:
    """Read seconds and peak MB of one job; None for a file that Snakemake did not finish."""
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            try:
                return float(row["s"]), float(row["max_rss"]) if row["max_rss"] != "-" else 0.0
            except (KeyError, ValueError):
                break
    logger.warning("report: %s holds no timing", path)
    return None
