"""Sections of the learning stages: model, pretrain, finetune, evaluate, submit, report."""

from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline_src.config.curriculum import CurriculumConfig
from pipeline_src.config.mavil import MAViLRecipe
from pipeline_src.config.section import Section


class ModelConfig(Section):
    """Which network. ``overrides`` are constructor arguments of the method's class."""

    method: Literal["avsiam", "cav_mae", "mavil", "diffmavil"] = Field(
        default="avsiam", description="method"
    )
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
    overrides: dict[str, Any] = Field(
        default={},
        description="further constructor arguments, e.g. {patch_size: 8, embed_dim: 128}",
    )

    @property
    def name(self) -> str:
        """The name that ``create_model`` takes, e.g. avsiam_tiny."""
        return f"{self.method}_{self.size}"


class OptimConfig(Section):
    """Optimiser, schedule and clock shared by pre-training and fine-tuning."""

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
    amp: bool = Field(default=True, description="bfloat16 autocast")
    compile: bool = Field(default=False, description="torch.compile the blocks of the network")
    parallel: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="several ranks: ddp = a copy of the network each, fsdp = a part of each "
        "tensor (FSDP2, for the large sizes)",
    )
    num_workers: int = Field(default=2, ge=0, description="loader processes per rank")
    log_every: int = Field(default=10, gt=0, description="steps between rows of metrics.jsonl")
    save_every_seconds: float = Field(
        default=60.0, gt=0, description="time between checkpoints; the last step is always saved"
    )
    keep_checkpoints: int = Field(default=2, gt=0, description="newest checkpoints kept")
    seed: int = Field(
        default=0, ge=0, description="of initial weights, data order, masks and augmentation"
    )

    @property
    def batch_unit(self) -> tuple[str, int]:
        """Name and value of the key that the number of clips of every step is a multiple of."""
        return "batch_size", self.batch_size


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
        default=1.0, gt=0, le=1, description="smallest area of the random resized crop; 1 = off"
    )
    image_shift: float = Field(
        default=0.0, ge=0, lt=1, description="random shift of the frame, share of its side"
    )
    image_rotate: float = Field(
        default=0.0, ge=0, le=180, description="random rotation of the frame, degrees"
    )
    flip: bool = Field(default=False, description="random horizontal flip")


class PretrainConfig(OptimConfig):
    """Self-supervised pre-training: contrast of audio and video, and masked reconstruction.

    The defaults are AVSiam's; those of the other methods stand in ``config/experiments``.
    """

    datasets: tuple[str, ...] = Field(
        default=(), description="data sets to learn from; empty = all that are listed"
    )
    checkpoint: str = Field(
        default="",
        description="folder that pipeline_src.models.convert wrote: it stands for this "
        "pre-training, nothing is trained; empty = train",
    )
    teacher_run: str = Field(
        default="",
        description="mavil, stage 2: run whose pre-training hidden tokens are learned from; needs "
        "model.overrides.predicts: features",
    )
    num_frames: int = Field(
        default=1, gt=0, description="frames per clip, one at random in each of as many equal spans"
    )
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
    packed: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="avsiam: run the clips of all contrast_ratios, audio and video, as one batch; "
        "auto = on a GPU. The losses differ by rounding only",
    )
    curriculum: CurriculumConfig = CurriculumConfig()
    adaptive_batch: Literal["none", "tokens", "flops"] = Field(
        default="none",
        description="more clips per step where the curriculum hides more, at equal visible tokens "
        "or operations per step; batch_size holds at its lowest ratio, lr scales with the batch",
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
    )
    negatives: Literal["fixed", "all"] = Field(
        default="fixed",
        description="of an adaptive batch: fixed = each clip is told from batch_size - 1 others, "
        "drawn anew at each step; all = from every other clip, so the loss means less as it grows",
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

    @property
    def batch_unit(self) -> tuple[str, int]:
        """Name and value of the key that the number of clips of every step is a multiple of."""
        if self.adaptive_batch == "none":
            return super().batch_unit
        return "batch_multiple", self.batch_multiple


class FinetuneConfig(OptimConfig):
    """Supervised fine-tuning with audio, video and audio-video heads in one model."""

    datasets: tuple[str, ...] = Field(
        default=(), description="labelled data sets, one model each; empty = all listed"
    )
    init: Literal["pretrain", "scratch"] = Field(
        default="pretrain", description="where the encoder starts from"
    )
    skip: bool = Field(
        default=False, description="no fine-tuning: only the pre-training is made and scored"
    )
    checkpoint_run: str = Field(
        default="", description="run whose pre-training is used; empty = this run's own"
    )
    checkpoint: str = Field(
        default="",
        description="folder that pipeline_src.models.convert wrote: it stands for this "
        "fine-tuning, nothing is trained; empty = train",
    )
    label_fraction: float = Field(
        default=1.0, gt=0, le=1, description="share of the training clips, stratified by class"
    )
    num_frames: int = Field(
        default=1, gt=0, description="frames per clip, one at random in each of as many equal spans"
    )
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
        default=5, gt=0, description="epochs between validation scores"
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


class EvaluateConfig(Section):
    """Scoring of checkpoints."""

    datasets: tuple[str, ...] = Field(
        default=(),
        description="data sets that the pre-training is scored on, also such that it never saw; "
        "empty = all that are listed",
    )
    probes: bool = Field(
        default=True,
        description="score the pre-training by probes and reconstruction too, which needs training "
        "clips with labels; else by retrieval alone",
    )
    split: Literal["val", "test"] = Field(default="test", description="split that is scored")
    batch_size: int = Field(default=100, gt=0, description="clips per forward pass")
    num_frames: int = Field(
        default=10,
        gt=0,
        description="frames per clip; outputs are averaged over groups of the model's num_frames",
    )
    num_workers: int = Field(default=2, ge=0, description="loader processes")
    num_bootstrap: int = Field(default=1000, ge=0, description="resamples of the 95 % intervals")
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
        description="of resampling and of the untrained encoder that probes compare with",
    )

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
        description="what Ctrl-C does with a Slurm job: stop = save and end, leave = let it go on",
    )
    poll_seconds: float = Field(
        default=0.0, ge=0, le=600, description="time between looks at a job; 0 = 0.5 local, 5 Slurm"
    )


class ReportConfig(Section):
    """The report page."""

    num_examples: int = Field(
        default=4, gt=0, le=20, description="clips in the reconstruction panel"
    )
    tsne_clips: int = Field(default=500, gt=1, le=5000, description="clips in the t-SNE map")
