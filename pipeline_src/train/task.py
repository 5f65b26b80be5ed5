"""What a pre-training and a fine-tuning do differently; all else in this room is one way for both.

Shape legend: N clips of all ranks.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from pipeline_src.config import (
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    Schedule,
    even_schedule,
    make_schedule,
    plan_phases,
    pretrain_network,
)
from pipeline_src.config.heads import possible_shares
from pipeline_src.loader.mixup import Mixup, read_mixup
from pipeline_src.loader.sampler import ClipWeights, balanced_weights
from pipeline_src.methods import NetworkConfig, find_method
from pipeline_src.methods.common.classify import Classify, ClassifyPlan
from pipeline_src.methods.common.contrast import sample_negatives
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.objective import Objective
from pipeline_src.modalities import HEADS, MODALITIES, LabelKind
from pipeline_src.shards.shard_set import ShardSet
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.generators import seeded_generator
from pipeline_src.train.objective import pretrain_objective
from pipeline_src.train.optim import layer_lr_factor


class StepKind(NamedTuple):
    """Steps that draw alike: the heads of a fine-tuning, the mask ratios of a curriculum.

    Args:
        share: of the clips of the training that they take.
        batch_factor: clips of such a step in terms of the recipe's batch.
        plan: what the objective has drawn for one.
    """

    share: float
    batch_factor: float
    plan: Any


class Task(ABC):
    """A kind of training. What is not abstract here is what a task without it does."""

    stage: ClassVar[Literal["pretrain", "finetune"]]
    label_fraction: float = 1.0
    averaged_epochs: tuple[int, ...] = ()

    @abstractmethod
    def schedule(self, num_clips: int, num_mel_bins: int) -> Schedule:
        """Plan every step over ``num_clips`` clips per epoch.

        Raises:
            ConfigError: a mask ratio or batch of the plan is impossible.
        """

    @abstractmethod
    def objective(
        self,
        model: AudioVisualModel,
        labels: LabelKind,
        teacher: AudioVisualModel | None = None,
        modalities: Collection[str] = MODALITIES,
    ) -> Objective:
        """Build model plus losses, the module that the loop calls.

        Args:
            labels: one class a clip or several; only fine-tuning looks at it.
            teacher: finished network that a second stage follows; frozen.
            modalities: what the clips have; fine-tuning trains the heads that these allow.
        """

    @abstractmethod
    def step_kinds(
        self,
        objective: Objective,
        num_clips: int,
        num_mel_bins: int,
        modalities: Collection[str],
    ) -> list["StepKind"]:
        """List every kind of step that the training takes, each with a batch of ``num_clips``."""

    @property
    def sample_size(self) -> int:
        """The smallest batch in which every mask ratio has its share."""
        return 1

    @abstractmethod
    def validation_interval(self, schedule: Schedule) -> int:
        """Count the steps between two validations."""

    def class_names(self, shards: ShardSet) -> tuple[str, ...]:
        """Return what the heads' outputs mean; nothing where the network has no heads."""
        return ()

    def num_groups(self, network: NetworkConfig) -> int:
        """Count the groups of frames that the network sees of a clip at a time."""
        return 1

    def lr_factor(self, model: AudioVisualModel, name: str) -> float:
        """Return the factor of the learning rate of a parameter."""
        return 1.0

    def clip_weights(self, shards: ShardSet) -> ClipWeights | None:
        """Return the chances of clips to be drawn; None = each once per epoch."""
        return None

    def mixup(self, index_paths: Sequence[Path]) -> Mixup | None:
        """Return what mixes clips, if anything does."""
        return None

    def negatives(self, schedule: Schedule, step: int, ranks: Ranks) -> Tensor | None:
        """Draw which clips each clip of a step is scored against, (N, N) bool; None = all."""
        return None


@dataclass(frozen=True)
class Pretraining(Task):
    """Training by a method's own losses, without labels."""

    stage = "pretrain"
    model: ModelConfig
    recipe: PretrainConfig

    def schedule(self, num_clips: int, num_mel_bins: int) -> Schedule:
        """Plan the phases of the curriculum."""
        recipe = self.recipe
        network = pretrain_network(self.model, recipe, num_mel_bins)
        return make_schedule(
            num_clips,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            phases=plan_phases(network, recipe),
            phase_epochs=recipe.curriculum.every_epochs,
        )

    def objective(
        self,
        model: AudioVisualModel,
        labels: LabelKind,
        teacher: AudioVisualModel | None = None,
        modalities: Collection[str] = MODALITIES,
    ) -> Objective:
        """Build the method's objective."""
        return pretrain_objective(self.model.method, model, self.recipe, teacher)

    def step_kinds(
        self,
        objective: Objective,
        num_clips: int,
        num_mel_bins: int,
        modalities: Collection[str],
    ) -> list[StepKind]:
        """List the phases of the curriculum that differ."""
        network = pretrain_network(self.model, self.recipe, num_mel_bins)
        phases = plan_phases(network, self.recipe)
        generator = torch.Generator().manual_seed(0)
        return [
            StepKind(
                count / len(phases),
                phase.batch_size / self.recipe.batch_size,
                objective.draw(num_clips, phase.ratios, generator),
            )
            for phase, count in Counter(phases).items()
        ]

    @property
    def sample_size(self) -> int:
        """The number of mask ratios that share a batch."""
        key = find_method(self.model.method).config.ratio_key or "contrast_ratios"
        return len(self.recipe.listed_ratios(key)) or 1

    def validation_interval(self, schedule: Schedule) -> int:
        """Count all steps: there is no score without labels."""
        return schedule.num_steps

    def negatives(self, schedule: Schedule, step: int, ranks: Ranks) -> Tensor | None:
        """Draw which clips each clip of a step is scored against, (N, N) bool; None = all.

        The same on every rank. With ``negatives: fixed`` they are as many as in a batch of
        ``batch_size`` clips; where the contrast stays within a rank, as many as in that rank's
        share of one.
        """
        recipe = self.recipe
        if recipe.negatives == "all":
            return None
        num_parts = ranks.world_size if recipe.contrast_scope == "local" else 1
        num_clips = schedule.phase(step).batch_size
        generator = seeded_generator(ranks.device, recipe.seed, "negatives", step)
        return sample_negatives(num_clips // num_parts, recipe.batch_size // num_parts, generator)


class Finetuning(Task):
    """Training of classification heads, and of the network below them, on labels."""

    stage = "finetune"

    def __init__(self, recipe: FinetuneConfig) -> None:
        self.recipe = recipe
        self.label_fraction = recipe.label_fraction
        self.averaged_epochs = recipe.average_epochs

    def schedule(self, num_clips: int, num_mel_bins: int) -> Schedule:
        """Plan equal batches."""
        return even_schedule(num_clips, self.recipe.batch_size, self.recipe.epochs)

    def objective(
        self,
        model: AudioVisualModel,
        labels: LabelKind,
        teacher: AudioVisualModel | None = None,
        modalities: Collection[str] = MODALITIES,
    ) -> Objective:
        """Build the classification losses of the heads that the clips can train."""
        return Classify(
            model,
            task=labels,
            label_smoothing=self.recipe.label_smoothing,
            modality_probs=possible_shares(self.recipe.modality_probs, modalities),
            all_heads=self.recipe.all_heads,
        )

    def step_kinds(
        self,
        objective: Objective,
        num_clips: int,
        num_mel_bins: int,
        modalities: Collection[str],
    ) -> list[StepKind]:
        """List the heads that a step may train, or the one kind that trains all."""
        if self.recipe.all_heads:
            plan = objective.draw(num_clips, None, torch.Generator().manual_seed(0))
            return [StepKind(1.0, 1.0, plan)]
        shares = zip(HEADS, possible_shares(self.recipe.modality_probs, modalities), strict=True)
        return [
            StepKind(share, 1.0, ClassifyPlan({head: 1.0})) for head, share in shares if share > 0
        ]

    def validation_interval(self, schedule: Schedule) -> int:
        """Count the steps of ``validate_every_epochs``."""
        return max(1, round(self.recipe.validate_every_epochs * schedule.steps_per_epoch))

    def class_names(self, shards: ShardSet) -> tuple[str, ...]:
        """Return the classes of the data sets."""
        return tuple(shards.class_names)

    def num_groups(self, network: NetworkConfig) -> int:
        """Count the groups that a class is predicted from."""
        return network.classified_groups

    def lr_factor(self, model: AudioVisualModel, name: str) -> float:
        """Return the factor of a parameter by its layer, of heads and of fusion."""
        return layer_lr_factor(
            model.layer_id(name),
            num_layers=model.config.depth,
            layer_decay=self.recipe.layer_decay,
            head=self.recipe.head_lr_factor,
            fusion=self.recipe.fusion_lr_factor,
        )

    def clip_weights(self, shards: ShardSet) -> ClipWeights | None:
        """Return the weights of ``balanced_sampling``.

        Raises:
            ValueError: no clip has a label.
        """
        if not self.recipe.balanced_sampling:
            return None
        return balanced_weights([sample.labels for sample in shards.samples])

    def mixup(self, index_paths: Sequence[Path]) -> Mixup | None:
        """Return what mixes a share of the clips with others.

        Raises:
            ManifestError: the indexes do not say how their log-mel was computed, or differ.
        """
        if not self.recipe.mixup:
            return None
        return read_mixup(index_paths, probability=self.recipe.mixup, alpha=self.recipe.mixup_alpha)


def make_task(model: ModelConfig, recipe: PretrainConfig | FinetuneConfig) -> Task:
    """Return the task that a recipe is for."""
    if isinstance(recipe, PretrainConfig):
        return Pretraining(model, recipe)
    return Finetuning(recipe)
