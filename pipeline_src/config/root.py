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
from pipeline_src.methods import METHODS

RUN_SECTIONS = ("model", "pretrain", "finetune", "evaluate")
ODD_LETTERS = frozenset("{}<>$;&|`\"'\\*?[]")
NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_]*$"


class RunConfig(Section):
    """Everything one run is made of: the top-level sections with the run's own values on top."""

    model: ModelConfig
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    evaluate: EvaluateConfig

    @model_validator(mode="after")
    def _check_chunks(self) -> "RunConfig":
        pretrain = self.pretrain
        key, ratios = {
            "avsiam": ("contrast_ratios", pretrain.contrast_ratios),
            "mavil": ("mavil.mask_ratios", pretrain.mavil.mask_ratios),
            "diffmavil": ("mavil.mask_ratios", pretrain.mavil.mask_ratios),
        }.get(self.model.method, ("", ()))
        if pretrain.batch_size < len(ratios):
            raise ValueError(
                f"pretrain.batch_size={pretrain.batch_size} is smaller than the number of "
                f"{key}, {len(ratios)}"
            )
        return self

    @model_validator(mode="after")
    def _check_curriculum(self) -> "RunConfig":
        pretrain = self.pretrain
        passes_apart = METHODS[self.model.method].config.has_contrast_pass
        if not pretrain.curriculum.is_on:
            return self
        if pretrain.mavil.mask_ratios and self.model.method in ("mavil", "diffmavil"):
            raise ValueError(
                f"pretrain.mavil.mask_ratios={list(pretrain.mavil.mask_ratios)} stand for the "
                "mask ratio that pretrain.curriculum schedules; give one of them"
            )
        if passes_apart and pretrain.reconstruct_weight == 0:
            raise ValueError(
                f"pretrain.curriculum schedules the reconstruction of {self.model.method}, but "
                "pretrain.reconstruct_weight is 0"
            )
        if pretrain.curriculum.contrast_ratios_end and not passes_apart:
            raise ValueError(
                f"pretrain.curriculum.contrast_ratios_end: {self.model.method} contrasts under "
                "the mask of its reconstruction; leave it empty"
            )
        return self

    @model_validator(mode="after")
    def _check_frames(self) -> "RunConfig":
        seen = self.finetune.num_frames
        if self.finetune.init == "pretrain" and self.pretrain.num_frames != seen:
            raise ValueError(
                f"finetune.num_frames={seen} must equal pretrain.num_frames="
                f"{self.pretrain.num_frames}, or finetune.init be scratch"
            )
        if self.evaluate.num_frames < seen:
            raise ValueError(
                f"evaluate.num_frames={self.evaluate.num_frames} must be at least "
                f"finetune.num_frames={seen}"
            )
        return self

    @model_validator(mode="after")
    def _check_windows(self) -> "RunConfig":
        shown, size = self.evaluate.num_frames, self.finetune.num_frames
        if self.finetune.fps and shown % size:
            raise ValueError(
                f"evaluate.num_frames={shown} must be a multiple of finetune.num_frames={size}: "
                f"with finetune.fps={self.finetune.fps:g} it is a number of whole windows"
            )
        return self


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
