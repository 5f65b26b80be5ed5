"""Sections that every training has: optimiser and schedule, augmentation."""

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from pipeline_src.config.section import MAX_SEED, OPERATIONAL, Section


def _read_switch(value: Any) -> Any:
    """Return a truth value, also of the words that --config passes on, or what was given."""
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return value


class OptimConfig(Section):
    """Optimiser, schedule and clock shared by pre-training and fine-tuning."""

    has_heads: ClassVar[bool] = False

    epochs: float = Field(default=25, gt=0, description="passes over the training clips")
    batch_size: int = Field(default=96, gt=0, description="clips per optimiser step over all ranks")
    lr: float = Field(default=1e-4, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "step"] = Field(
        default="cosine",
        description="learning rate after warm-up: half a cosine to min_lr, or constant with the "
        "decay_* steps (AVSiam, CAV-MAE)",
    )
    min_lr: float = Field(default=0.0, ge=0, description="cosine: learning rate at the end")
    decay_start_epoch: int = Field(
        default=10, gt=0, description="step: the rate falls first at the end of this epoch"
    )
    decay_every_epochs: int = Field(
        default=5, gt=0, description="step: epochs between two falls of the rate"
    )
    decay_factor: float = Field(
        default=0.5, gt=0, le=1, description="step: factor of each fall of the rate"
    )
    warmup_epochs: float = Field(default=1, ge=0, description="linear warm-up; 0 = none")
    optimizer: Literal["adamw", "adam"] = Field(
        default="adamw",
        description="adamw: decoupled weight decay; adam: L2 weight decay (AVSiam, CAV-MAE)",
    )
    weight_decay: float = Field(
        default=0.05,
        ge=0,
        description="adamw: not on norms, biases, positions; adam: on every tensor",
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="of the first moment")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="of the second moment")
    max_grad_norm: float = Field(
        default=1.0, ge=0, description="gradients are clipped to this L2 norm; 0 = not clipped"
    )
    amp: Annotated[Literal["auto", True, False], BeforeValidator(_read_switch)] = Field(
        default="auto",
        description="bfloat16 autocast; auto = where the device computes in it, else fp32, and a "
        "training continues as it began",
    )
    compile: bool = Field(default=False, description="torch.compile the blocks of the network")
    activation_checkpointing: bool = Field(
        default=False,
        description="recompute the encoders' blocks in the backward pass: less memory, more time, "
        "the same gradients",
        json_schema_extra=OPERATIONAL,
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="several ranks: ddp = a copy of the network each, fsdp = a part of each "
        "tensor (FSDP2, for the large sizes)",
        json_schema_extra=OPERATIONAL,
    )
    num_workers: int = Field(
        default=2, ge=0, description="loader processes per rank", json_schema_extra=OPERATIONAL
    )
    prefetch_batches: int = Field(
        default=4,
        gt=0,
        le=64,
        description="batches that each loader process is ahead",
        json_schema_extra=OPERATIONAL,
    )
    max_decode_errors: int = Field(
        default=0,
        ge=0,
        description="training clips that may fail to decode; another one is drawn for each of "
        "them, more end the training; 0 = the first one does",
        json_schema_extra=OPERATIONAL,
    )
    log_every: int = Field(
        default=10,
        gt=0,
        description="steps between rows of metrics.jsonl",
        json_schema_extra=OPERATIONAL,
    )
    save_every_seconds: float = Field(
        default=60.0,
        gt=0,
        description="time between checkpoints; up to 30 times as long where the last one took more "
        "than a twentieth of it. The last step is always saved",
        json_schema_extra=OPERATIONAL,
    )
    keep_checkpoints: int = Field(
        default=2, gt=0, description="newest checkpoints kept", json_schema_extra=OPERATIONAL
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=MAX_SEED,
        description="of initial weights, data order, masks and augmentation",
    )

    @property
    def batch_unit(self) -> tuple[str, int]:
        """Name and value of the key that the number of clips of every step is a multiple of."""
        return "batch_size", self.batch_size

    def batch_lr_factor(self, batch_factor: float) -> float:
        """Scale the learning rate of a step whose batch is ``batch_factor`` times the usual one."""
        return batch_factor

    def scored_heads(
        self, modalities: Collection[str], possible: Collection[str]
    ) -> tuple[str, ...]:
        """Return the heads whose figures mean something: none of a pre-training.

        Args:
            modalities: what the clips have. possible: heads that the network has.
        """
        return ()


class AugmentConfig(Section):
    """Training augmentation; each is off at 0."""

    noise: float = Field(
        default=0.0,
        ge=0,
        description="uniform noise on the normalised log-mel, up to this amplitude",
    )
    time_shift: int = Field(
        default=0, ge=0, description="random shift of the log-mel, up to this many frames"
    )
    time_roll: int = Field(
        default=0, ge=0, description="random roll of the log-mel, up to this many frames (CAV-MAE)"
    )
    freq_shift: int = Field(
        default=0, ge=0, description="random shift of the log-mel, up to this many mel bins"
    )
    gain: float = Field(
        default=0.0, ge=0, description="random level of the log-mel, up to this many std"
    )
    freq_mask: int = Field(default=0, ge=0, description="SpecAugment: widest masked band, mel bins")
    time_mask: int = Field(default=0, ge=0, description="SpecAugment: longest masked span, frames")
    mask_fill: Literal["mean", "zero"] = Field(
        default="mean",
        description="what masked cells hold: the training mean, or 0 before normalisation "
        "(AVSiam, CAV-MAE)",
    )
    crop_scale: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="smallest area of the random resized crop, which keeps the shape; 1 = off",
    )
    image_shift: float = Field(
        default=0.0, ge=0, lt=1, description="random shift of the frame, share of its side"
    )
    image_rotate: float = Field(
        default=0.0, ge=0, le=180, description="random rotation of the frame, degrees"
    )
    flip: bool = Field(default=False, description="random horizontal flip")
