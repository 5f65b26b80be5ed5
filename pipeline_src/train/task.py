"""What a pre-training and a fine-tuning do differently; all else in this room is one way for both.

Shape legend: N clips of all ranks.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
from pipeline_src.config.heads import possible_shares, scored_heads
from pipeline_src.loader.mixup import Mixup, read_mixup
from pipeline_src.loader.sampler import ClipWeights, balanced_weights
from pipeline_src.methods import NetworkConfig
from pipeline_src.methods.common.classify import Classify
from pipeline_src.methods.common.contrast import sample_negatives
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.objective import Objective
from pipeline_src.shards.read import ShardSet
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.generators import seeded_generator
from pipeline_src.train.objective import pretrain_objective
from pipeline_src.train.optim import layer_lr_factor

Labels = Literal["multiclass", "multilabel"]


class Task(ABC):
    """A kind of training. What is not abstract here is what a task without it does."""

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
        labels: Labels,
        teacher: AudioVisualModel | None = None,
        modalities: Collection[str] = ("audio", "video"),
    ) -> Objective:
        """Build model plus losses, the module that the loop calls.

        Args:
            labels: one class a clip or several; only fine-tuning looks at it.
            teacher: finished network that a second stage follows; frozen.
            modalities: what the clips have; fine-tuning trains the heads that these allow.
        """

    @abstractmethod
    def validation_interval(self, schedule: Schedule) -> int:
        """Count the steps between two validations."""

    def class_names(self, shards: ShardSet) -> tuple[str, ...]:
        """Return what the heads' outputs mean; nothing where the network has no heads."""
        return ()

    def heads(self, modalities: Collection[str], possible: Collection[str]) -> tuple[str, ...]:
        """Return the heads that are validated between epochs; none = no validation.

        Args:
            modalities: what the clips have. possible: heads that the network has.
        """
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

    model: ModelConfig
    recipe: PretrainConfig

    def schedule(self, num_clips: int, num_mel_bins: int) -> Schedule:
        """Plan the phases of the curriculum."""
        recipe = self.recipe
        return make_schedule(
            num_clips,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            phases=plan_phases(pretrain_network(self.model, recipe, num_mel_bins), recipe),
            phase_epochs=recipe.curriculum.every_epochs,
        )

    def objective(
        self,
        model: AudioVisualModel,
        labels: Labels,
        teacher: AudioVisualModel | None = None,
        modalities: Collection[str] = ("audio", "video"),
    ) -> Objective:
        """Build the method's objective."""
        return pretrain_objective(self.model.method, model, self.recipe, teacher)

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
        labels: Labels,
        teacher: AudioVisualModel | None = None,
        modalities: Collection[str] = ("audio", "video"),
    ) -> Objective:
        """Build the classification losses of the heads that the clips can train."""
        return Classify(
            model,
            task=labels,
            label_smoothing=self.recipe.label_smoothing,
            modality_probs=possible_shares(self.recipe.modality_probs, modalities),
            all_heads=self.recipe.all_heads,
        )

    def validation_interval(self, schedule: Schedule) -> int:
        """Count the steps of ``validate_every_epochs``."""
        return max(1, round(self.recipe.validate_every_epochs * schedule.steps_per_epoch))

    def class_names(self, shards: ShardSet) -> tuple[str, ...]:
        """Return the classes of the data sets."""
        return tuple(shards.class_names)

    def heads(self, modalities: Collection[str], possible: Collection[str]) -> tuple[str, ...]:
        """Return the heads whose figures mean something."""
        return scored_heads(self.recipe.modality_probs, modalities, possible)

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
