"""The one schema of metrics.json: what evaluations write; the report, table and reproduce read it.

Three kinds of file: a fine-tuning on a split (``EvalMetrics``), its mean over folds
(``FoldMetrics``), a pre-training before any label (``ProbeMetrics``). What is written holds no key
that is not here. Keys that a file of an earlier version lacks have a default, and unknown ones are
ignored in reading, so that a later version may add some.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from pipeline_src.errors import StageError, shown
from pipeline_src.evaluate.files import SUMMARY_FILE
from pipeline_src.modalities import HEADS, MODALITIES, Head, LabelKind
from pipeline_src.system.atomic import write_json

DIRECTIONS = ("audio_to_video", "video_to_audio")
# The metric that the field quotes for a task.
HEADLINE: dict[LabelKind, Literal["accuracy", "mAP"]] = {
    "multiclass": "accuracy",
    "multilabel": "mAP",
}
ROOT_DEPTH = 3  # results/<run>/eval/<dataset>/metrics.json, results/<dataset>/shards/<split>/..

Record = TypeVar("Record", bound=BaseModel)


class Estimate(BaseModel):
    """A figure with its 95 % interval; a bare number is one without."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _wrap_number(cls, value: Any) -> Any:
        return {"value": value} if isinstance(value, int | float) else value

    @property
    def has_bounds(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low is not None and self.high is not None

    @property
    def is_gain(self) -> bool:
        """Whether, as a difference, it lies above 0 with its whole interval."""
        return self.low is not None and self.low > 0

    @property
    def is_loss(self) -> bool:
        """Whether, as a difference, it lies below 0 with its whole interval."""
        return self.high is not None and self.high < 0


class Scores(BaseModel):
    """Classification figures of one input; those that the task or the classes lack are absent."""

    accuracy: Estimate | None = None
    top5_accuracy: Estimate | None = None
    mAP: Estimate | None = None
    mean_auc: Estimate | None = None
    d_prime: Estimate | None = None
    num_classes_scored: int | None = None  # classes that mAP averages over

    def get(self, metric: str) -> Estimate | None:
        """Return the figure called ``metric``."""
        return getattr(self, metric)


class ByModality(BaseModel):
    """Classification figures by input; None where an input was not scored."""

    audio: Scores | None = None
    video: Scores | None = None
    audio_video: Scores | None = None

    def scores(self, head: Head) -> Scores | None:
        """Return the figures of one input."""
        return getattr(self, head)


class SingleFrame(ByModality):
    """What the middle frame group alone gives; ``num_frames`` is its size."""

    num_frames: int


class Directions(BaseModel):
    """R@k and median rank in both directions, and how many queries are tied."""

    audio_to_video: dict[str, Estimate]
    video_to_audio: dict[str, Estimate]
    num_tied: dict[str, int] = {}

    def direction(self, name: str) -> dict[str, Estimate]:
        """Return the figures of ``audio_to_video`` or ``video_to_audio``."""
        return self.audio_to_video if name == "audio_to_video" else self.video_to_audio


class Retrieval(Directions):
    """Retrieval at one gallery size, and whose features were compared."""

    checkpoint: str = ""
    checkpoint_sha256: str = ""
    trained_on: list[str] | None = None
    scored_on: str = ""
    zero_shot: bool | None = None
    gallery: dict[str, Any] = {}
    gallery_size: int = Field(gt=0)
    chance: dict[str, float] = {}
    single_frame: Directions | None = None
    by_score: dict[str, Directions] = {}  # of aligned segments: by other scores of two clips

    def chance_level(self, metric: str) -> float:
        """Return the expected ``R@k`` or ``median_rank`` of a random order."""
        if metric == "median_rank":
            return (self.gallery_size + 1) / 2
        return min(1.0, int(metric.removeprefix("R@")) / self.gallery_size)


class Scored(BaseModel):
    """What an evaluation and a probe both say: which clips, which weights, which code."""

    run: str
    dataset: str
    split: str
    modalities: tuple[str, ...] = MODALITIES
    clip_ids_sha256: str
    warnings: list[str] = []
    num_frames: int | None = None
    retrieval: Retrieval | None = None
    checkpoint_sha256: str = ""
    config_sha256: str = ""
    data_sha256: str = ""
    seed: dict[str, Any] = {}
    precision: dict[str, Any] = {}
    git_commit: str = ""
    versions: dict[str, str] = {}
    config: dict[str, Any] = {}
    seconds: float | None = None

    @property
    def name(self) -> str:
        """How the page calls it."""
        return f"{self.run} / {self.dataset}"


class EvalMetrics(Scored, ByModality):
    """metrics.json of one run on one split."""

    task: LabelKind
    num_clips: int
    num_clips_in_list: int
    heads: tuple[Head, ...] = HEADS
    single_frame: SingleFrame | None = None

    def headline(self, head: Head) -> Estimate | None:
        """Return accuracy (multiclass) or mAP (multilabel) of one input."""
        scores = self.scores(head)
        return scores.get(HEADLINE[self.task]) if scores else None

    def single_headline(self, head: Head) -> Estimate | None:
        """Return the same of the middle frame group alone; None for audio, or with one group."""
        scores = self.single_frame.scores(head) if self.single_frame else None
        return scores.get(HEADLINE[self.task]) if scores else None


class FoldFigure(BaseModel):
    """A figure over folds: mean, standard deviation, and the value of each fold."""

    value: float
    std: float
    folds: list[float]


class FoldMetrics(BaseModel):
    """metrics.json of one run over all folds of a data set."""

    run: str
    dataset: str
    task: LabelKind
    heads: tuple[Head, ...]
    folds: list[str]
    num_clips: int
    num_clips_in_list: int
    audio: dict[str, FoldFigure] = {}
    video: dict[str, FoldFigure] = {}
    audio_video: dict[str, FoldFigure] = {}
    checkpoint_sha256: list[str] = []

    def scores(self, head: Head) -> dict[str, FoldFigure]:
        """Return the figures of one input; none where it was not scored."""
        return getattr(self, head)


class ReconstructionScores(BaseModel):
    """Mean squared error on hidden patches, that of two constant predictions, and how much less."""

    model: Estimate
    mean_patch: Estimate
    mean_position: Estimate
    below_mean_patch: Estimate | None = None
    below_mean_position: Estimate | None = None


class Probe(Estimate):
    """A probe; of a trained encoder with the difference to its start, on the same clips."""

    over_untrained: Estimate | None = None


class LinearProbe(Probe):
    """Logistic regression, and the regularisation that validation clips chose."""

    inverse_strength: float | None = None
    is_at_grid_end: bool = False


class NeighbourProbe(Probe):
    """k-NN, and its k."""

    num_neighbours: int | None = None


class AttentiveProbe(Probe):
    """A trained aggregator, and the number of epochs that validation clips chose."""

    num_epochs: int | None = None


class ProbeScores(BaseModel):
    """The probes of one input's features."""

    metric: str = "accuracy"
    linear: LinearProbe | None = None
    knn: NeighbourProbe | None = None
    attentive: AttentiveProbe | None = None


class ProbeMetrics(Scored):
    """metrics.json of a probe: what a pre-trained encoder holds before any label is used.

    Scored by retrieval alone, it has neither probes nor reconstruction.
    """

    task: LabelKind | None = None
    num_clips: int | None = None
    num_clips_in_list: int | None = None
    reconstruction: dict[Head, ReconstructionScores] = {}
    probes: dict[Literal["pretrained", "untrained"], dict[Head, ProbeScores]] = {}
    retrieval_untrained: Retrieval | None = None

    @property
    def is_retrieval_only(self) -> bool:
        """Whether there were no training clips for anything else."""
        return not (self.reconstruction or self.probes)


def parse_scored(values: dict[str, Any]) -> EvalMetrics | ProbeMetrics:
    """Return the record of one split; figures of other versions stay in it, as further fields.

    Raises:
        ValidationError: a key is missing or wrong.
    """
    kind = ProbeMetrics if "probes" in values else EvalMetrics
    return kind.model_validate(values, extra="allow")


def write_metrics(
    path: Path,
    kind: type[Record],
    values: dict[str, Any],
    summarise: Callable[[Record], dict[str, Any]],
) -> None:
    """Write metrics.json, its keys in the order given, after the summary that lies beside it.

    Raises:
        ValidationError: ``values`` do not fit ``kind`` or have further keys, an error of ours.
    """
    summary = summarise(kind.model_validate(values, extra="forbid"))
    write_json(path.with_name(SUMMARY_FILE), summary)
    write_json(path, values)  # last: whoever sees it sees all


def read_record(path: Path, kind: type[Record], written_by: str) -> Record:
    """Read a JSON file as a checked record.

    Args:
        written_by: what to run where it is missing or damaged.
    Raises:
        StageError: it cannot be read, or a key is missing or wrong.
    """
    text = read_text(path, written_by)
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f"{key}: " if key else ""
        is_wrong = first["type"] not in ("missing", "json_invalid")
        found = f", not {shown(first['input'])}" if is_wrong else ""
        raise StageError(
            f"{short_path(path)}: {where}{first['msg']}{found}; run {written_by} again"
        ) from error


def read_text(path: Path, written_by: str) -> str:
    """Read a text file; ``written_by`` is what to run where it is not there.

    Raises:
        StageError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StageError(f"{short_path(path)} is not there: {written_by} writes it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{short_path(path)} cannot be read ({error}): delete it and run "
                         f"{written_by} again") from error  # fmt: skip


def short_path(path: Path) -> str:
    """Return the path below the results root, which is what a reader can look for."""
    return "/".join(path.parts[-ROOT_DEPTH - 1 :])
