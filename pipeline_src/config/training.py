"""Sections of the trainings: the network, pre-training, fine-tuning."""

import math
import re
from collections.abc import Collection
from functools import reduce
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pipeline_src.config.curriculum import CurriculumConfig
from pipeline_src.config.heads import scored_heads
from pipeline_src.config.mavil import MAViLRecipe
from pipeline_src.config.optim import AugmentConfig, OptimConfig
from pipeline_src.config.section import ELSEWHERE, LATER, OPERATIONAL, Section
from pipeline_src.methods import MethodName, find_method

FPS = (
    "num_frames at this rate, in frames per second, from one window of the clip, in training a "
    "random one; needs media.frame_rate; 0 = spread over the clip"
)


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _number(value: Any) -> Any:
    """Return the number that a text is; anything else as it is."""
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        return value
    if value.lstrip("+-").isdigit():
        return int(value)
    return float(value) if math.isfinite(float(value)) else value


def _takes_text(annotation: Any, text: Any) -> bool:
    """Return whether a field of this type may hold the text itself."""
    if annotation is str or (isinstance(annotation, str) and annotation == text):
        return True
    return any(_takes_text(one, text) for one in get_args(annotation))


class ModelConfig(Section):
    """Which network. ``overrides`` are constructor arguments of the method's class."""

    method: MethodName = Field(default="avsiam", description="method")
    size: Literal["tiny", "small", "base", "large", "huge"] = Field(
        default="base", description="encoder size"
    )
    init: str = Field(
        default="random",
        description="random | timm (ImageNet weights from the hub) | path of a timm state dict",
    )
    img_size: int = Field(
        default=224, ge=16, le=1024, description="side of the square input frame in pixels"
    )
    target_length: int = Field(
        default=1024, ge=16, description="log-mel frames the model sees; padded or cut to it"
    )
    fit_positions: Literal["refuse", "interpolate", "trim"] = Field(
        default="refuse",
        description="where the weights that a training starts from know another target_length or "
        "img_size: interpolate = stretch their positions; trim = the first of them",
    )
    overrides: dict[str, Any] = Field(
        default={},
        description="further constructor arguments, e.g. {patch_size: 8, embed_dim: 128}",
    )

    @field_validator("overrides")
    @classmethod
    def _read_numbers(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Take a number that stands as text for the number, as the sections' own keys do."""
        method = info.data.get("method")
        fields = find_method(method).config.model_fields if method else {}
        kinds = {key: field.annotation for key, field in fields.items()}
        return {
            key: value if _takes_text(kinds.get(key), value) else _number(value)
            for key, value in values.items()
        }

    @property
    def name(self) -> str:
        """The name that ``create_model`` takes, e.g. avsiam_tiny."""
        return f"{self.method}_{self.size}"


class PretrainConfig(OptimConfig):
    """Self-supervised pre-training: contrast of audio and video, and masked reconstruction.

    The defaults are AVSiam's; those of the other methods stand in ``config/experiments``.
    """

    old_keys = MappingProxyType({"packed": "pack_sequences"})

    datasets: tuple[str, ...] = Field(
        default=(),
        description="data sets to learn from; empty = all that are listed",
        json_schema_extra=ELSEWHERE,
    )
    checkpoint: str = Field(
        default="",
        description="folder that `av-pipeline convert` wrote: it stands for this "
        "pre-training, nothing is trained; empty = train",
        json_schema_extra=ELSEWHERE,
    )
    checkpoint_run: str = Field(
        default="",
        description="run whose pre-training this one continues, with a new optimiser and its "
        "own data sets; empty = from model.init",
        json_schema_extra=ELSEWHERE,
    )
    teacher_run: str = Field(
        default="",
        description="mavil, stage 2: run whose pre-training hidden tokens are learned from; needs "
        "model.overrides.predicts: features",
        json_schema_extra=ELSEWHERE,
    )
    num_frames: int = Field(
        default=1, gt=0, description="frames per clip, one at random in each of as many equal spans"
    )
    fps: float = Field(default=0.0, ge=0, le=60, description=FPS)
    contrast_ratios: tuple[float, ...] = Field(
        default=(0.0, 0.125, 0.25, 0.375, 0.5),
        min_length=1,
        description="avsiam: mask ratios of the contrastive pass, each on an equal share of clips",
    )
    contrast_direction: Literal["both", "a2v", "v2a"] = Field(
        default="both",
        description="InfoNCE directions; v2a = of each video among the audios (CAV-MAE)",
    )
    contrast_scope: Literal["global", "local"] = Field(
        default="global",
        description="negatives: the clips of all ranks, or of one rank (CAV-MAE)",
    )
    contrast_weight: float = Field(default=1.0, ge=0, description="weight of the contrastive loss")
    temperature: float = Field(default=0.05, gt=0, description="of the contrastive loss")
    reconstruct_ratio: float = Field(
        default=0.75,
        gt=0,
        lt=1,
        description="avsiam: mask ratio of the reconstruction pass; others: of the only pass. "
        "Also what the error on hidden patches is measured at, curriculum or not",
    )
    reconstruct_weight: float = Field(
        default=1.0, ge=0, description="weight of the reconstruction loss"
    )
    audio_mask: Literal["unstructured", "time", "freq", "time_freq"] = Field(
        default="time_freq",
        description="avsiam: audio masks of the contrastive pass; others: of the only pass",
    )
    joint_step: bool = Field(
        default=False,
        description="avsiam: one optimiser step on both losses; else one optimiser and one step "
        "per loss. The others have one pass",
    )
    pack_sequences: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="avsiam: run the clips of all contrast_ratios, audio and video, as one batch; "
        "auto = on a GPU. The losses differ by rounding only",
        json_schema_extra=OPERATIONAL,
    )
    curriculum: CurriculumConfig = CurriculumConfig()
    adaptive_batch: Literal["none", "tokens", "flops"] = Field(
        default="none",
        description="more clips per step where the curriculum hides more, at equal visible tokens "
        "or operations per step; batch_size holds at its lowest ratio, lr follows adaptive_lr",
    )
    adaptive_lr: Literal["sqrt", "linear"] = Field(
        default="sqrt",
        description="factor of lr in a step of n times batch_size clips: the root of n, as the "
        "noise of Adam's steps has it (arXiv:2205.10287), or n, as for SGD",
        json_schema_extra=LATER,
    )
    batch_multiple: int = Field(
        default=8,
        gt=0,
        description="adaptive batches are multiples of it; the number of ranks must divide it",
    )
    max_batch_size: int = Field(
        default=0,
        ge=0,
        description="most clips per step over all ranks that memory holds; a training that would "
        "exceed it is refused before it starts; 0 = unknown",
        json_schema_extra=OPERATIONAL,
    )
    negatives: Literal["fixed", "all"] = Field(
        default="fixed",
        description="of an adaptive batch: fixed = each clip is contrasted with batch_size - 1 "
        "others, drawn anew at each step; all = with every other clip, so the loss means less as "
        "it grows",
    )
    mavil: MAViLRecipe = MAViLRecipe()
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _check_ratios(self) -> "PretrainConfig":
        for ratio in self.contrast_ratios:
            if not 0 <= ratio < 1:
                raise ValueError(f"contrast_ratios: {ratio} is not in [0, 1)")
        if self.contrast_weight == self.reconstruct_weight == 0:
            raise ValueError("contrast_weight and reconstruct_weight are both 0: nothing to learn")
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> "PretrainConfig":
        ends = self.curriculum.contrast_ratios_end
        for ratio in ends:
            if not 0 <= ratio < 1:
                raise ValueError(f"curriculum.contrast_ratios_end: {ratio} is not in [0, 1)")
        if ends and len(ends) != len(self.contrast_ratios):
            raise ValueError(
                f"curriculum.contrast_ratios_end has {len(ends)} ratios, contrast_ratios has "
                f"{len(self.contrast_ratios)}"
            )
        if self.adaptive_batch == "none":
            return self
        if not self.curriculum.is_on:
            raise ValueError(
                f"adaptive_batch={self.adaptive_batch} follows the curriculum, but "
                "curriculum.shape=constant; choose linear, cosine or step"
            )
        if self.batch_size % self.batch_multiple:
            raise ValueError(
                f"batch_size={self.batch_size} must be a multiple of batch_multiple="
                f"{self.batch_multiple} with adaptive_batch={self.adaptive_batch}"
            )
        return self

    def listed_ratios(self, key: str) -> tuple[float, ...]:
        """List mask ratios under a dotted key, each for an equal share of clips; none without one.

        Args:
            key: ``ratio_key`` of a method's network.
        """
        return reduce(getattr, key.split("."), self) if key else ()  # type: ignore[return-value]

    @property
    def batch_unit(self) -> tuple[str, int]:
        """Name and value of the key that the number of clips of every step is a multiple of."""
        if self.adaptive_batch == "none":
            return super().batch_unit
        return "batch_multiple", self.batch_multiple

    def batch_lr_factor(self, batch_factor: float) -> float:
        """Return the factor that ``adaptive_lr`` gives the learning rate."""
        return math.sqrt(batch_factor) if self.adaptive_lr == "sqrt" else batch_factor


class FinetuneConfig(OptimConfig):
    """Supervised fine-tuning with audio, video and audio-video heads in one model."""

    has_heads: ClassVar[bool] = True

    datasets: tuple[str, ...] = Field(
        default=(),
        description="labelled data sets, one model each; empty = all listed",
        json_schema_extra=ELSEWHERE,
    )
    init: Literal["pretrain", "scratch"] = Field(
        default="pretrain", description="where the encoder starts from"
    )
    skip: bool = Field(
        default=False,
        description="no fine-tuning: only the pre-training is made and scored",
        json_schema_extra=ELSEWHERE,
    )
    checkpoint_run: str = Field(
        default="",
        description="run whose pre-training is used; empty = this run's own",
        json_schema_extra=ELSEWHERE,
    )
    checkpoint: str = Field(
        default="",
        description="folder that `av-pipeline convert` wrote: it stands for this "
        "fine-tuning, nothing is trained; empty = train",
        json_schema_extra=ELSEWHERE,
    )
    label_fraction: float = Field(
        default=1.0, gt=0, le=1, description="share of the training clips, stratified by class"
    )
    num_frames: int = Field(
        default=1, gt=0, description="frames per clip, one at random in each of as many equal spans"
    )
    fps: float = Field(default=0.0, ge=0, le=60, description=FPS)
    balanced_sampling: bool = Field(
        default=False,
        description="an epoch is as many draws with replacement as there are clips; a clip's "
        "weight is the sum of 1000 / (clips of the class + .01) over its labels",
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="probability that a clip is mixed with another one: waveform, frames and "
        "labels; needs shards.waveform",
    )
    mixup_alpha: float = Field(
        default=10.0, gt=0, description="the first clip's share is drawn from Beta(alpha, alpha)"
    )
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="mass spread over all classes"
    )
    modality_probs: tuple[float, float, float] = Field(
        default=(0.25, 0.25, 0.5),
        description="share of steps on audio, video, audio_video (AVSiam: 25/25/50)",
    )
    all_heads: bool = Field(
        default=False, description="sum the three losses at each step, weighted by modality_probs"
    )
    head_lr_factor: float = Field(default=1.0, gt=0, description="learning rate factor of heads")
    fusion_lr_factor: float = Field(
        default=1.0, gt=0, description="learning rate factor of the fusion layers"
    )
    average_epochs: tuple[int, ...] = Field(
        default=(),
        description="[first, last]: the result is the mean of the weights at the ends of these "
        "epochs, counted from 1; empty = the last weights",
    )
    validate_every_epochs: float = Field(
        default=5,
        gt=0,
        description="epochs between validation scores",
        json_schema_extra=OPERATIONAL,
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="learning rate factor per encoder layer, from the top"
    )
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _check_skip(self) -> "FinetuneConfig":
        if self.skip and (self.init == "scratch" or self.checkpoint or self.checkpoint_run):
            raise ValueError(
                "skip: true scores the run's own pre-training, so init: scratch, checkpoint and "
                "checkpoint_run have no meaning; remove one or the other"
            )
        return self

    @model_validator(mode="after")
    def _check_probs(self) -> "FinetuneConfig":
        if min(self.modality_probs) < 0 or abs(sum(self.modality_probs) - 1) > 1e-6:
            raise ValueError(f"modality_probs={self.modality_probs} must be >= 0 and sum to 1")
        if self.parallel == "fsdp" and not self.all_heads:
            raise ValueError(
                "parallel: fsdp needs all_heads: true; else the ranks would run different layers"
            )
        return self

    @model_validator(mode="after")
    def _check_average(self) -> "FinetuneConfig":
        if not self.average_epochs:
            return self
        if len(self.average_epochs) != 2:
            raise ValueError(f"average_epochs={list(self.average_epochs)} must be [first, last]")
        first, last = self.average_epochs
        if not 1 <= first <= last <= self.epochs:
            raise ValueError(
                f"average_epochs={[first, last]} must be 1 <= first <= last <= "
                f"epochs={self.epochs:g}"
            )
        return self

    def scored_heads(
        self, modalities: Collection[str], possible: Collection[str]
    ) -> tuple[str, ...]:
        """Return the heads whose figures mean something."""
        return scored_heads(self.modality_probs, modalities, possible)


def num_labelled(label_fraction: float, num_clips: int) -> int:
    """Return how many clips of a class are learnt from: at least one of a class that has any."""
    return max(1, round(label_fraction * num_clips))
