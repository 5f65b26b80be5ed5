"""Network, losses and optimisers of a run, fresh or as its newest checkpoint left them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline_src.config import AugmentConfig, ModelConfig, OptimConfig
from pipeline_src.loader.augment import augment_batch
from pipeline_src.loader.batches import Batch
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.objective import Objective
from pipeline_src.runs.build import build_model
from pipeline_src.runs.checkpoint import Checkpoint, load_optimizers, load_weights
from pipeline_src.shards.shard_set import ShardSet
from pipeline_src.train.average import WeightAverage, epoch_end_steps
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.guard import StepGuard
from pipeline_src.train.learner import Learner
from pipeline_src.train.optim import build_optimizers
from pipeline_src.train.parallel import compile_blocks, shard_model
from pipeline_src.train.progress import TrainProgress
from pipeline_src.train.resume import start_from
from pipeline_src.train.task import Task


def build_network(
    config: ModelConfig,
    shards: ShardSet,
    *,
    num_classes: int,
    num_frames: int,
    seed: int,
    device: torch.device,
    resumed: Checkpoint | None,
    start: Path | None,
) -> AudioVisualModel:
    """Build the network with the weights that the run continues or starts with.

    Args:
        num_classes: outputs of its heads; 0 = a decoder and no heads.
        start: done.json of an earlier training whose weights a new run takes.

    Raises:
        CheckpointError: the weights do not fit the network.
    """
    # A resumed network needs no initial weights: the hub or their file may be gone by now.
    fresh = config.model_copy(update={"init": "random"}) if resumed else config
    model = build_model(
        fresh,
        num_classes=num_classes,
        num_mel_bins=shards.num_mel_bins,
        num_frames=num_frames,
        seed=seed,
    ).to(device)
    if resumed:
        load_weights(resumed, model)
    elif start:
        start_from(start, model, shards, config.fit_positions)
    return model


def build_learner(
    recipe: OptimConfig,
    task: Task,
    objective: Objective,
    progress: TrainProgress,
    ranks: Ranks,
    resumed: Checkpoint | None,
    *,
    is_mixed: bool,
    compiled_folder: Path,
) -> Learner:
    """Compile and distribute the objective's network, and build or restore its optimisers.

    Args:
        objective: its network is changed in place.
        is_mixed: whether the passes run under bfloat16 autocast.
        compiled_folder: where compiled code is kept for the next training.
    """
    model = objective.model
    model.set_grad_checkpointing(recipe.activation_checkpointing)
    if recipe.compile:
        compile_blocks(model, compiled_folder)
    is_sharded = ranks.world_size > 1 and recipe.parallel == "fsdp"
    if is_sharded:
        shard_model(model, ranks)  # before optimisers are made: they hold a part of each tensor
    optimizers = build_optimizers(
        recipe, model.named_parameters(), objective.passes, partial(task.lr_factor, model)
    )
    average = WeightAverage(
        epoch_end_steps(
            task.averaged_epochs,
            steps_per_epoch=progress.steps_per_epoch,
            num_steps=progress.num_steps,
        )
    )
    if resumed:
        load_optimizers(resumed, model, optimizers)
        average.restore(resumed, model)
    is_copied = ranks.world_size > 1 and not is_sharded
    return Learner(
        objective=objective,
        forward=_in_ddp(objective) if is_copied else objective,
        optimizers=optimizers,
        guard=StepGuard(reads_at_once=is_sharded),
        average=average,
        is_mixed=is_mixed,
    )


def _in_ddp(objective: Objective) -> nn.Module:
    """Wrap the objective so that its gradients are averaged over the ranks."""
    assert isinstance(objective, nn.Module)
    return DistributedDataParallel(
        objective,
        find_unused_parameters=objective.find_unused_parameters,
        broadcast_buffers=False,  # they hold constants
        gradient_as_bucket_view=True,  # no second copy of the gradients
    )


def build_augmentation(
    augment: AugmentConfig, shards: ShardSet
) -> Callable[[Batch, torch.Generator], Batch]:
    """Return what changes a batch at random, in the units of its log-mels; the shapes stay."""
    zero_level = -shards.logmel_mean / shards.logmel_std
    return lambda batch, generator: augment_batch(
        batch, augment, generator=generator, zero_level=zero_level
    )
