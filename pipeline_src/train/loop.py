"""The training loop: knows no modality, no file format and no command line.

All randomness of step k comes from generators seeded by (seed, purpose, k, rank), so a run that is
killed and resumed at step k continues with the same batches, masks and augmentation.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from pipeline_src.config import OptimConfig
from pipeline_src.config.phases import Schedule
from pipeline_src.errors import TrainingError
from pipeline_src.loader.batches import Batch
from pipeline_src.runs.checkpoint import save_checkpoint
from pipeline_src.runs.spec import CHECKPOINTS_FOLDER
from pipeline_src.train.distributed import Ranks, any_rank, mean_over_ranks, wait_for_all
from pipeline_src.train.generators import seeded_generator
from pipeline_src.train.learner import Learner
from pipeline_src.train.learning_rate import learning_rate
from pipeline_src.train.log import open_log
from pipeline_src.train.loggers import Loggers
from pipeline_src.train.optim import set_learning_rate
from pipeline_src.train.parallel import clip_gradients
from pipeline_src.train.progress import TrainProgress
from pipeline_src.train.stop import StopFlag, StopRequestedError

logger = logging.getLogger(__name__)
# A large state on a slow disk is saved less often, so that training has 20 times its time.
TRAINING_PER_SAVING, MOST_INTERVALS = 20, 30


@dataclass(frozen=True)
class TrainingRun:
    """Everything the loop drives.

    Args:
        augment: (batch, generator) -> batch, on the device.
        validate: scores the model between epochs; called on every rank.
        describe: indices of a batch -> clip ids, for error messages.
        state: constant entries of state.json: fingerprint, versions, configuration.
        negatives: step -> clips that each is scored against (N, N); None = all.
        heartbeat: told of every sign of life, see ``alive.py``.
        open_loggers: called on the rank that writes the log.
        count_faults: what else a row of the log says, asked on every rank; ends a training whose
            clips are too bad.
    """

    folder: Path
    recipe: OptimConfig
    learner: Learner
    augment: Callable[[Batch, torch.Generator], Batch]
    validate: Callable[[], dict[str, float]] | None
    validate_every_steps: int
    describe: Callable[[Tensor], list[str]]
    state: Mapping[str, Any]
    ranks: Ranks
    negatives: Callable[[int], Tensor | None] = lambda step: None
    count_faults: Callable[[], Mapping[str, int]] = dict
    heartbeat: Callable[[str], None] = lambda what: None
    open_loggers: Callable[[], Loggers] = Loggers


def train(
    run: TrainingRun, batches: Iterator[Batch], progress: TrainProgress, stop: StopFlag
) -> Path:
    """Run from ``progress.step`` to ``progress.num_steps``; return the last checkpoint's folder.

    Raises:
        TrainingError: a loss or gradient is not finite; nothing was stepped with it.
        StopRequestedError: ``stop`` was set on some rank; a checkpoint has been written.
    """
    saved_at, saving_seconds, folder = time.monotonic(), 0.0, Path()
    open_loggers, writes = run.open_loggers, run.ranks.is_main
    with open_log(run.folder, progress.step, open_loggers, writes=writes) as log:
        while progress.step < progress.num_steps:
            values = _take_step(run, next(batches), progress)
            progress.step += 1
            run.heartbeat(f"step {progress.step} of {progress.num_steps}")
            run.learner.average.add(run.learner.model, progress.step)
            is_last = progress.step == progress.num_steps
            if progress.step % run.recipe.log_every == 0 or is_last:
                run.learner.guard.settle()
                row = _row(progress, mean_over_ranks(values, run.ranks))
                log.write({**row, **run.count_faults()})
            if run.validate and (is_last or progress.step % run.validate_every_steps == 0):
                scores = run.validate()
                log.write({"step": progress.step, "epoch": progress.epoch, "val": scores})
            interval = saving_interval(run.recipe.save_every_seconds, saving_seconds)
            # Rank 0 alone knows how long it wrote.
            is_due = run.ranks.is_main and time.monotonic() - saved_at > interval
            must_stop, must_save = any_rank((stop.requested, is_due), run.ranks)
            if is_last or must_stop or must_save:
                run.learner.guard.settle()
                began = time.monotonic()
                folder = _save(run, progress)
                run.heartbeat(f"state of step {progress.step} saved")
                saved_at = time.monotonic()
                saving_seconds = saved_at - began
            if must_stop and not is_last:
                wait_for_all(run.ranks)  # a rank that ends early would take the writer with it
                raise StopRequestedError(
                    f"stopped by a signal at step {progress.step}, state saved"
                )
    return folder


def saving_interval(wanted_seconds: float, saving_seconds: float) -> float:
    """Return the seconds between two checkpoints, of which the last took ``saving_seconds``."""
    bounded = min(TRAINING_PER_SAVING * saving_seconds, MOST_INTERVALS * wanted_seconds)
    return max(wanted_seconds, bounded)


def _take_step(run: TrainingRun, batch: Batch, progress: TrainProgress) -> dict[str, Tensor]:
    """Take the optimiser steps of a batch's passes; return what is logged, 0-d values."""
    device, recipe, learner = run.ranks.device, run.recipe, run.learner
    learner.model.train()
    batch = run.augment(batch, step_generator(run, "augment", progress.step))
    plan = learner.objective.draw(
        len(batch["index"]),
        progress.schedule.phase(progress.step).ratios,
        step_generator(run, "mask", progress.step),
        device,
        run.negatives(progress.step),
    )
    lr = learning_rate(recipe, progress)
    logged: dict[str, Tensor] = {"lr": torch.tensor(lr)}
    for step_pass in learner.objective.passes:
        optimizer = learner.optimizers[step_pass]
        set_learning_rate(optimizer, lr)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=learner.is_mixed):
            losses = learner.forward(batch, plan, step_pass)
        losses["loss"].backward()
        grad_norm = clip_gradients(learner.model.parameters(), recipe.max_grad_norm)
        values = {name: value.detach() for name, value in losses.items()}
        refuse = partial(_refuse, run, batch["index"], values, grad_norm, progress.step)
        learner.guard.watch(optimizer, grad_norm + values["loss"], refuse)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        suffix = "" if len(learner.objective.passes) == 1 else f"_{step_pass}"
        total = logged.get("loss", 0) + values["loss"]
        logged |= values | {"loss": total}
        logged[f"grad_norm{suffix}"] = grad_norm.detach()
    return logged


def step_generator(run: TrainingRun, purpose: str, step: int) -> torch.Generator:
    """Make a generator on the run's device, the same whenever this step is taken."""
    return seeded_generator(run.ranks.device, run.recipe.seed, purpose, step, run.ranks.rank)


def _refuse(
    run: TrainingRun, indices: Tensor, losses: Mapping[str, Tensor], grad_norm: Tensor, step: int
) -> NoReturn:
    values = ", ".join(f"{name}={value.item():.4g}" for name, value in losses.items())
    clips = run.describe(indices)
    raise TrainingError(
        f"step {step}: {values}, grad_norm={grad_norm.item():.4g} is not finite; the step was not "
        f"taken. Clips of the batch: {', '.join(clips[:8])} ... ({len(clips)}). Lower lr="
        f"{run.recipe.lr} or raise warmup_epochs={run.recipe.warmup_epochs}"
    )


def _row(progress: TrainProgress, values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "step": progress.step,
        "num_steps": progress.num_steps,
        "epoch": round(progress.epoch, 4),
        "samples_seen": progress.samples_seen,
        "seconds": round(progress.total_seconds, 3),
        **_scheduled_values(progress.schedule, progress.step - 1),
        **values,
    }


def _scheduled_values(schedule: Schedule, step: int) -> dict[str, float]:
    """Return batch size and mask ratios of a step, where they change during a training."""
    if not schedule.is_scheduled:
        return {}
    phase = schedule.phase(step)
    values: dict[str, float] = {"batch_size": phase.batch_size}
    if phase.ratios:
        values |= {"audio_ratio": phase.ratios.audio, "video_ratio": phase.ratios.video}
        if listed := phase.ratios.listed:
            values["contrast_ratio"] = sum(listed) / len(listed)
    return values


def _save(run: TrainingRun, progress: TrainProgress) -> Path:
    parent = run.folder / CHECKPOINTS_FOLDER
    state = {
        "step": progress.step,
        "num_steps": progress.num_steps,
        "samples_seen": progress.samples_seen,
        "seconds": round(progress.total_seconds, 3),
        "num_averaged": run.learner.average.num_terms(progress.step),
        **run.state,
    }
    return save_checkpoint(
        parent,
        run.learner.model,
        run.learner.optimizers,
        state,
        keep=run.recipe.keep_checkpoints,
        writes=run.ranks.is_main,
        sums=run.learner.average.sums,
    )
