"""From a spec to a trained checkpoint: builds everything, resumes, trains, publishes done.json."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline_src.config import FinetuneConfig, PretrainConfig
from pipeline_src.data.augment import augment_batch
from pipeline_src.data.dataset import ClipDataset, ClipFormat
from pipeline_src.data.loader import Batch, to_device, training_batches
from pipeline_src.data.mixup import Mixup, read_mixup
from pipeline_src.data.sampler import (
    ClipWeights,
    EpochSampler,
    balanced_weights,
    stratified_subset,
)
from pipeline_src.errors import ManifestError
from pipeline_src.eval.predict import quick_accuracy
from pipeline_src.models import AudioVisualModel
from pipeline_src.objectives import TrainObjective
from pipeline_src.provenance import git_commit, package_versions
from pipeline_src.runs.build import build_model
from pipeline_src.runs.checkpoint import (
    Checkpoint,
    load_matching,
    load_optimizers,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
)
from pipeline_src.runs.done import read_done, write_done
from pipeline_src.runs.history import HISTORY_FILE, VALIDATION_FILE, write_history
from pipeline_src.runs.spec import CHECKPOINTS_FOLDER, TrainSpec, step_folder
from pipeline_src.shards.read import ShardSet, open_shards
from pipeline_src.train.average import WeightAverage, epoch_end_steps
from pipeline_src.train.distributed import Ranks, from_main, join_ranks
from pipeline_src.train.guard import StepGuard
from pipeline_src.train.log import METRICS_FILE, read_metrics
from pipeline_src.train.loop import Clock, Run, train
from pipeline_src.train.measure import cost_record
from pipeline_src.train.memory import keep_freed_memory
from pipeline_src.train.objective import build_objective, build_optimizers
from pipeline_src.train.parallel import compile_blocks, shard_model
from pipeline_src.train.plan import step_setting, training_timetable
from pipeline_src.train.stop import StopFlag
from pipeline_src.train.teacher import load_teacher

logger = logging.getLogger(__name__)
FOLDER_TIMEOUT_SECONDS = 60.0


def run_training(spec: TrainSpec, stop: StopFlag) -> Path:
    """Train ``spec`` to its end, from the newest checkpoint of the same fingerprint.

    Args:
        stop: asks for an early end; the state is saved first.
    Returns:
        Path of done.json, which names the checkpoint folder and its sha256.
    Raises:
        TrainingError, CheckpointError, ManifestError: see the message.
        StopRequestedError: ended early, state saved.
    """
    torch.set_num_threads(min(spec.num_threads, len(os.sched_getaffinity(0))))
    keep_freed_memory()
    with join_ranks() as ranks:
        fingerprint = spec.fingerprint()
        resumed = _resume_point(spec.run_dir / CHECKPOINTS_FOLDER, fingerprint, ranks)
        if ranks.is_main and resumed is None:
            _set_aside(spec.run_dir)
        folder = _train_on(spec, ranks, fingerprint, resumed, stop)
    return _publish(spec, read_checkpoint(folder)) if ranks.is_main else spec.run_dir


def _publish(spec: TrainSpec, checkpoint: Checkpoint) -> Path:
    rows = read_metrics(spec.run_dir / METRICS_FILE)
    losses = [row for row in rows if "loss" in row]
    write_history(spec.run_dir / HISTORY_FILE, losses)
    if spec.val_indexes:
        write_history(spec.run_dir / VALIDATION_FILE, [row for row in rows if "val" in row])
    return write_done(
        spec.run_dir,
        checkpoint,
        losses[-1] if losses else {},
        cost_record(spec, checkpoint.state),
    )


def _resume_point(parent: Path, fingerprint: str, ranks: Ranks) -> Checkpoint | None:
    """Rank 0 chooses: on a network file system the ranks may see different folders for a while."""
    found = newest_checkpoint(parent, fingerprint) if ranks.is_main else None
    step = from_main(found.step if found else 0, ranks)
    if ranks.is_main or step == 0:
        return found
    folder = parent / step_folder(step)
    deadline = time.monotonic() + FOLDER_TIMEOUT_SECONDS
    while folder not in parent.iterdir() and time.monotonic() < deadline:  # looks anew
        time.sleep(1)
    return read_checkpoint(folder)


def _train_on(
    spec: TrainSpec,
    ranks: Ranks,
    fingerprint: str,
    resumed: Checkpoint | None,
    stop: StopFlag,
) -> Path:
    shards = _training_shards(spec)
    clock = Clock(0, training_timetable(spec, len(shards), shards.num_mel_bins))
    if resumed and resumed.step >= clock.num_steps:
        return resumed.folder
    start = spec.model.model_copy(update={"init": "random"}) if resumed else spec.model
    model = build_model(
        start,
        num_classes=len(shards.class_names) if spec.stage == "finetune" else 0,
        num_mel_bins=shards.num_mel_bins,
        num_frames=spec.recipe.num_frames,
        seed=spec.recipe.seed,
    ).to(ranks.device)
    if resumed:
        load_weights(resumed, model)
        clock.step, clock.seconds = resumed.step, float(resumed.state["seconds"])
        logger.info("resuming %s at step %d of %d", spec.run_dir, clock.step, clock.num_steps)
    elif spec.initial_checkpoint:
        _start_from(spec.initial_checkpoint, model)
    teacher = load_teacher(spec, model, shards)
    objective = build_objective(spec, model, shards.task, teacher)
    if spec.recipe.compile:
        compile_blocks(model)
    shares_tensors = ranks.world_size > 1 and spec.recipe.parallel == "fsdp"
    if shares_tensors:
        shard_model(model, ranks)
    optimizers = build_optimizers(spec, model, objective.passes)
    average = _average(spec, clock)
    if resumed:
        load_optimizers(resumed, model, optimizers)
        average.restore(resumed, model)
    run = Run(
        folder=spec.run_dir,
        recipe=spec.recipe,
        model=model,
        draws=objective,
        objective=_driven(objective, copied=ranks.world_size > 1 and not shares_tensors),
        optimizers=optimizers,
        augment=lambda batch, generator: augment_batch(
            batch,
            generator=generator,
            zero_level=-shards.logmel_mean / shards.logmel_std,
            **spec.recipe.augment.model_dump(),
        ),
        validate=_validation(spec, model, shards, ranks),
        validate_every_steps=_validation_steps(spec, clock),
        describe=lambda indices: [shards.samples[i].clip_id for i in indices.tolist()],
        state=_state(spec, shards, fingerprint),
        ranks=ranks,
        guard=StepGuard(reads_at_once=shares_tensors),
        average=average,
        setting=lambda step: step_setting(spec.recipe, clock.timetable, step, ranks),
    )
    return train(run, _batches(spec, shards, clock, ranks), clock, stop)


def _training_shards(spec: TrainSpec) -> ShardSet:
    shards = open_shards(spec.train_indexes)
    fraction = getattr(spec.recipe, "label_fraction", 1.0)
    if fraction < 1:
        labels = [sample.labels for sample in shards.samples]
        shards = shards.subset(stratified_subset(labels, fraction, spec.recipe.seed))
    if not len(shards):
        raise ManifestError(f"{spec.train_indexes[0]}: the training split holds no clips")
    return shards


def _average(spec: TrainSpec, clock: Clock) -> WeightAverage:
    epochs = spec.recipe.average_epochs if isinstance(spec.recipe, FinetuneConfig) else ()
    steps = epoch_end_steps(
        epochs, steps_per_epoch=clock.steps_per_epoch, num_steps=clock.num_steps
    )
    return WeightAverage(steps)


def _format(spec: TrainSpec, shards: ShardSet, *, training: bool) -> ClipFormat:
    return ClipFormat(
        target_length=spec.model.target_length,
        img_size=spec.model.img_size,
        num_frames=spec.recipe.num_frames,
        logmel_mean=shards.logmel_mean,
        logmel_std=shards.logmel_std,
        training=training,
        seed=spec.recipe.seed,
    )


def _batches(spec: TrainSpec, shards: ShardSet, clock: Clock, ranks: Ranks) -> Iterator[Batch]:
    recipe = spec.recipe
    sampler = EpochSampler(
        len(shards),
        clock.timetable,
        recipe.seed,
        ranks.rank,
        ranks.world_size,
        _clip_weights(recipe, shards),
    )
    batches = training_batches(
        ClipDataset(shards, _format(spec, shards, training=True), _mixup(spec)),
        sampler,
        first_step=clock.step,
        last_step=clock.num_steps,
        num_workers=recipe.num_workers,
        pin_memory=ranks.device.type == "cuda",
    )
    return (to_device(batch, ranks.device) for batch in batches)


def _clip_weights(recipe: PretrainConfig | FinetuneConfig, shards: ShardSet) -> ClipWeights | None:
    if not isinstance(recipe, FinetuneConfig) or not recipe.balanced_sampling:
        return None
    return balanced_weights([sample.labels for sample in shards.samples])


def _mixup(spec: TrainSpec) -> Mixup | None:
    recipe = spec.recipe
    if not isinstance(recipe, FinetuneConfig) or not recipe.mixup:
        return None
    return read_mixup(spec.train_indexes, probability=recipe.mixup, alpha=recipe.mixup_alpha)


def _driven(objective: TrainObjective, *, copied: bool) -> nn.Module:
    """The objective as the loop calls it: under DDP or plain."""
    if not copied:
        return objective
    unused = objective.find_unused_parameters
    return DistributedDataParallel(objective, find_unused_parameters=unused)


def _validation(
    spec: TrainSpec, model: AudioVisualModel, shards: ShardSet, ranks: Ranks
) -> Callable[[], dict[str, float]] | None:
    held_out = open_shards(spec.val_indexes) if spec.val_indexes else None
    if not isinstance(spec.recipe, FinetuneConfig) or held_out is None or not len(held_out):
        return None
    dataset = ClipDataset(held_out, _format(spec, shards, training=False))
    batch_size = spec.recipe.batch_size
    return lambda: quick_accuracy(
        model,
        dataset,
        batch_size=batch_size,
        device=ranks.device,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )


def _validation_steps(spec: TrainSpec, clock: Clock) -> int:
    if isinstance(spec.recipe, PretrainConfig):
        return clock.num_steps
    return max(1, round(spec.recipe.validate_every_epochs * clock.steps_per_epoch))


def _start_from(done: Path, model: AudioVisualModel) -> None:
    checkpoint = read_done(done)
    missing = load_matching(
        checkpoint,
        model,
        allowed_missing=model.head_prefixes,
        allowed_unused=model.pretrain_prefixes,
    )
    logger.info(
        "started from %s; new: %s; left behind: %s",
        checkpoint.folder,
        ", ".join(missing) or "nothing",
        ", ".join(f"{prefix}*" for prefix in model.pretrain_prefixes),
    )


def _state(spec: TrainSpec, shards: ShardSet, fingerprint: str) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "config_sha256": spec.config_sha256(),
        "data_sha256": spec.data_sha256(),
        "trained_on": spec.trained_on(),
        "seed": spec.recipe.seed,
        "spec": spec.model_dump(mode="json"),
        "class_names": list(shards.class_names) if spec.stage == "finetune" else [],
        "task": shards.task,
        "num_mel_bins": shards.num_mel_bins,
        "logmel_mean": shards.logmel_mean,
        "logmel_std": shards.logmel_std,
        "git_commit": git_commit(),
        "versions": package_versions(),
    }


def _set_aside(run_dir: Path) -> None:
    """Move what an earlier configuration left here into ``superseded``; nothing is lost."""
    left = [run_dir / name for name in (CHECKPOINTS_FOLDER, "tensorboard", METRICS_FILE)]
    left = [path for path in left if path.exists()]
    if not left:
        return
    parent = run_dir / "superseded"
    taken = [int(path.name) for path in parent.glob("[0-9][0-9][0-9]")]
    target = parent / f"{max(taken, default=-1) + 1:03d}"
    target.mkdir(parents=True)
    for path in left:
        shutil.move(path, target / path.name)
    logger.warning("%s: files of another configuration moved to %s", run_dir, target)
