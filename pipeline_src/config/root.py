"""The whole configuration, and the runs it lists."""

from types import MappingProxyType
from typing import Any

from pydantic import Field, field_validator, model_validator

from pipeline_src.config.data import (
    AudioConfig,
    DownloadConfig,
    MediaConfig,
    PlanConfig,
    RateLimitConfig,
    RemoteConfig,
    ShardsConfig,
)
from pipeline_src.config.evaluation import EvaluateConfig, ReportConfig, SubmitConfig
from pipeline_src.config.section import ELSEWHERE, OPERATIONAL, Section
from pipeline_src.config.training import FinetuneConfig, ModelConfig, PretrainConfig

RUN_SECTIONS = ("model", "pretrain", "finetune", "evaluate")
ODD_LETTERS = frozenset("{}<>$;&|`\"'\\*?[]")
# A file's name has at most 255 bytes, also that of a run and a data set with what stands behind.
MAX_NAME_CHARS = 100
NAME_PATTERN = rf"^[A-Za-z][A-Za-z0-9_]{{0,{MAX_NAME_CHARS - 1}}}$"


class RunConfig(Section):
    """Everything one run is made of: the top-level sections with the run's own values on top."""

    model: ModelConfig
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    evaluate: EvaluateConfig


class Config(Section):
    """config.yaml, an experiment overlay and --config, merged and checked."""

    old_keys = MappingProxyType({"network": "rate_limits"})

    results: str = Field(
        default="results",
        min_length=1,
        json_schema_extra=ELSEWHERE,
        description="folder that everything is written under",
    )
    datasets: tuple[str, ...] = Field(
        default=("avdigits",),
        min_length=1,
        json_schema_extra=ELSEWHERE,
        description="names in config/datasets, or paths of YAML files",
    )
    plan: PlanConfig = PlanConfig()
    download: DownloadConfig = DownloadConfig()
    rate_limits: RateLimitConfig = Field(default=RateLimitConfig(), json_schema_extra=OPERATIONAL)
    media: MediaConfig = MediaConfig()
    audio: AudioConfig = AudioConfig()
    shards: ShardsConfig = ShardsConfig()
    remote: RemoteConfig = Field(default=RemoteConfig(), json_schema_extra=OPERATIONAL)
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    submit: SubmitConfig = Field(default=SubmitConfig(), json_schema_extra=OPERATIONAL)
    report: ReportConfig = ReportConfig()
    runs: dict[str, dict[str, Any] | None] = Field(
        default={"avsiam_tiny": {section: {} for section in RUN_SECTIONS}},
        description="name: values that differ from the sections model, pretrain, finetune, "
        "evaluate; null removes a run that a lower file lists",
    )

    @field_validator("results")
    @classmethod
    def _check_results(cls, results: str) -> str:
        if results.startswith("~"):
            raise ValueError("~ is not replaced here; write the whole path")
        if odd := sorted({letter for letter in results if letter in ODD_LETTERS or letter < " "}):
            raise ValueError(
                f"its path must do without {' '.join(map(repr, odd))}, which mean something to "
                "Snakemake, DVC or a shell; blanks are allowed"
            )
        return results

    @model_validator(mode="after")
    def _check_runs(self) -> "Config":
        if not self.run_names:
            raise ValueError("runs: none is listed")
        if not self.media.has_frames:
            raise ValueError(
                "media.num_frames and media.frame_rate are both 0; set one (data sets of sound "
                "alone say `modalities: [audio]` in their YAML file)"
            )
        highest = self.media.sample_rate_hz / 2
        top = self.audio.high_freq_hz
        if not self.audio.low_freq_hz < (top if top > 0 else highest + top) <= highest:
            raise ValueError(
                f"audio.low_freq_hz={self.audio.low_freq_hz:g} and high_freq_hz={top:g} must be in "
                f"order and below half of media.sample_rate_hz={self.media.sample_rate_hz}"
            )
        return self

    @property
    def run_names(self) -> tuple[str, ...]:
        """The runs to build, evaluate and compare."""
        return tuple(name for name, overlay in self.runs.items() if overlay is not None)
