"""Sections of what follows and surrounds trainings: evaluation, submission, report."""

from typing import Literal

from pydantic import Field, model_validator

from pipeline_src.config.section import ELSEWHERE, MAX_SEED, OPERATIONAL, Section


class EvaluateConfig(Section):
    """Scoring of checkpoints."""

    datasets: tuple[str, ...] = Field(
        default=(),
        description="data sets that the pre-training is scored on, also such that it never saw; "
        "empty = all that are listed",
        json_schema_extra=ELSEWHERE,
    )
    probes: bool | tuple[Literal["linear", "knn", "attentive"], ...] = Field(
        default=True,
        description="score the pre-training by probes and reconstruction too, which needs training "
        "clips with labels; else by retrieval alone. true = [linear, knn]; attentive trains an "
        "aggregator over the frozen features of a clip's frames and stretches of sound",
    )
    split: Literal["val", "test"] = Field(default="test", description="split that is scored")
    batch_size: int = Field(default=100, gt=0, description="clips per forward pass")
    num_frames: int = Field(
        default=10,
        gt=0,
        description="frames per clip; outputs are averaged over groups of the model's num_frames",
    )
    num_workers: int = Field(
        default=2, ge=0, description="loader processes", json_schema_extra=OPERATIONAL
    )
    num_bootstrap: int = Field(
        default=1000, ge=0, description="resamples of the 95 % intervals; 0 = none"
    )
    retrieval_per_class: int | None = Field(
        default=None,
        ge=0,
        description="retrieval gallery: the first n clips per class; 0 = every clip; null = as "
        "published for the data set",
    )
    retrieval_size: int | None = Field(
        default=None,
        gt=0,
        description="retrieval gallery: the n clips whose ids have the lowest sha256; null = by "
        "retrieval_per_class",
    )
    knn: int = Field(default=20, gt=0, description="neighbours of the k-NN probe")
    seed: int = Field(
        default=0,
        ge=0,
        le=MAX_SEED,
        description="of resampling; the untrained encoder of the probes has that of its training",
    )

    @property
    def probe_kinds(self) -> tuple[str, ...]:
        """Names of the probes."""
        if isinstance(self.probes, bool):
            return ("linear", "knn") if self.probes else ()
        return self.probes

    @model_validator(mode="after")
    def _check_gallery(self) -> "EvaluateConfig":
        if self.retrieval_size is not None and self.retrieval_per_class is not None:
            raise ValueError(
                f"retrieval_size={self.retrieval_size} and retrieval_per_class="
                f"{self.retrieval_per_class} both name the gallery; set one of them to null"
            )
        return self


class SubmitConfig(Section):
    """How training jobs are run; what they ask of a machine stands in its profile."""

    cluster: Literal["auto", "local", "slurm"] = Field(
        default="auto", description="auto = where the other jobs run: slurm with --profile slurm"
    )
    on_interrupt: Literal["stop", "leave"] = Field(
        default="stop",
        description="what Ctrl-C does with a Slurm job: stop = save and end, leave = let it run",
    )
    without_gpu: Literal["fail", "cpu"] = Field(
        default="fail",
        description="a training that was given GPUs of which none works: end it, or use the CPU",
    )
    poll_seconds: float = Field(
        default=0.0, ge=0, le=600, description="time between looks at a job; 0 = 0.5 local, 5 Slurm"
    )
    stall_minutes: float = Field(
        default=15.0,
        ge=0,
        description="a training without a sign of life for this long (a step, a batch of its "
        "validation, a saved state, a part of its start) says so in its log and its progress line; "
        "0 = never",
    )
    loggers: tuple[Literal["wandb", "mlflow"], ...] = Field(
        default=(),
        description="what else takes the rows of metrics.jsonl, on this machine alone: wandb "
        "(offline runs, in logs/wandb of the results), mlflow (its file store, logs/mlruns)",
    )


class ReportConfig(Section):
    """The report page."""

    num_examples: int = Field(
        default=4,
        gt=0,
        le=20,
        description="clips in the reconstruction panel; the pre-training is evaluated again",
    )
    tsne_clips: int = Field(default=500, gt=1, le=5000, description="clips in the t-SNE map")
