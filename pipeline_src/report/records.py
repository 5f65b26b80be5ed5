"""What the report reads: typed views of metrics.json, probe metrics.json and index.json.

Unknown keys are ignored, so that a writer may add some; missing or wrong ones are refused by
``load.read_record`` with the file and the key.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

Modality = Literal["audio", "video", "audio_video"]
MODALITIES: tuple[Modality, ...] = ("audio", "video", "audio_video")
DIRECTIONS = ("audio_to_video", "video_to_audio")
HEADLINE = {"multiclass": "accuracy", "multilabel": "mAP"}


class Interval(BaseModel):
    """A figure with its 95 % interval; a bare number is a figure without one."""

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

    def lies_above(self, other: "Interval") -> bool:
        """Whether the two intervals are apart and this one is the higher."""
        return self.low is not None and other.high is not None and self.low > other.high


class Retrieval(BaseModel):
    """Retrieval in both directions at one gallery size."""

    checkpoint: str = ""
    trained_on: list[str] | None = None
    zero_shot: bool | None = None
    gallery_size: int = Field(gt=0)
    audio_to_video: dict[str, Interval]
    video_to_audio: dict[str, Interval]
    num_tied: dict[str, int] = {}

    def direction(self, name: str) -> dict[str, Interval]:
        """The figures of ``audio_to_video`` or ``video_to_audio``."""
        return self.audio_to_video if name == "audio_to_video" else self.video_to_audio

    def chance(self, metric: str) -> float:
        """Expected value of ``R@k`` or ``median_rank`` in a random order."""
        if metric == "median_rank":
            return (self.gallery_size + 1) / 2
        return min(1.0, int(metric.removeprefix("R@")) / self.gallery_size)


class SingleFrame(BaseModel):
    """What the middle frame group alone gives; ``num_frames`` is its size."""

    num_frames: int
    video: dict[str, Interval] | None = None
    audio_video: dict[str, Interval] | None = None


class Scored(BaseModel):
    """What both kinds of metrics.json say of the origin of their figures."""

    run: str
    dataset: str
    split: str
    clip_ids_sha256: str
    num_frames: int | None = None
    modalities: tuple[str, ...] = ("audio", "video")
    checkpoint_sha256: str = ""
    config_sha256: str = ""
    git_commit: str = ""
    versions: dict[str, str] = {}
    retrieval: Retrieval | None = None
    warnings: list[str] = []
    seconds: float | None = None

    @property
    def name(self) -> str:
        """How the page calls it."""
        return f"{self.run} / {self.dataset}"


class EvalMetrics(Scored):
    """metrics.json of one run on one data set."""

    task: Literal["multiclass", "multilabel"]
    num_clips: int
    num_clips_in_list: int
    heads: tuple[Modality, ...] = MODALITIES
    audio: dict[str, Interval] | None = None
    video: dict[str, Interval] | None = None
    audio_video: dict[str, Interval] | None = None
    single_frame: SingleFrame | None = None

    def figures(self, modality: Modality) -> dict[str, Interval] | None:
        """The metrics of one modality, or None where it was not scored."""
        return {"audio": self.audio, "video": self.video, "audio_video": self.audio_video}[modality]

    def headline(self, modality: Modality) -> Interval | None:
        """Accuracy (multiclass) or mAP (multilabel) of one modality."""
        return (self.figures(modality) or {}).get(HEADLINE[self.task])

    def single_headline(self, modality: Modality) -> Interval | None:
        """The same with the middle frame group alone; None for audio, or with one group."""
        figures = getattr(self.single_frame, modality, None)
        return (figures or {}).get(HEADLINE[self.task])


class FoldFigure(BaseModel):
    """A figure over folds: mean, standard deviation, and the value of each fold."""

    value: float
    std: float
    folds: list[float]


class FoldMetrics(BaseModel):
    """metrics.json of one run over all folds of a data set."""

    run: str
    dataset: str
    task: Literal["multiclass", "multilabel"]
    heads: tuple[Modality, ...]
    folds: list[str]
    num_clips: int
    num_clips_in_list: int
    audio: dict[str, FoldFigure] = {}
    video: dict[str, FoldFigure] = {}
    audio_video: dict[str, FoldFigure] = {}

    def figures(self, modality: Modality) -> dict[str, FoldFigure]:
        """The metrics of one modality; none where it was not scored."""
        return {"audio": self.audio, "video": self.video, "audio_video": self.audio_video}[modality]


class Reconstruction(BaseModel):
    """Mean squared error on hidden patches, and that of two constant predictions."""

    model: Interval
    mean_patch: Interval
    mean_position: Interval


class ProbeScores(BaseModel):
    """Both probes of one modality's features."""

    metric: str = "accuracy"
    linear: Interval | None = None
    knn: Interval | None = None


class ProbeMetrics(Scored):
    """Probe metrics.json: what a pre-trained encoder holds before any label is used.

    Scored by retrieval alone, it has neither probes nor reconstruction.
    """

    reconstruction: dict[Modality, Reconstruction] = {}
    probes: dict[Literal["pretrained", "untrained"], dict[Modality, ProbeScores]] = {}
    retrieval_untrained: Retrieval | None = None

    @property
    def is_retrieval_only(self) -> bool:
        """Whether there were no training clips for anything else."""
        return not (self.reconstruction or self.probes)


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
