"""From a spec to a trained checkpoint: builds everything, resumes, trains, publishes done.json."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from pipeline_src.errors import RunInUseError
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.runs.checkpoint import Checkpoint, read_checkpoint
from pipeline_src.runs.done import published, write_done
from pipeline_src.runs.history import HISTORY_FILE, METRICS_LOG_FILE, VALIDATION_FILE, write_history
from pipeline_src.runs.lease import held
from pipeline_src.runs.spec import CHECKPOINTS_FOLDER, DONE_FILE, PUBLISHED_FOLDER, TrainSpec
from pipeline_src.shards.shard_set import ShardSet, open_shards
from pipeline_src.system.cores import bind_main_thread, free_main_thread, num_cores
from pipeline_src.train.alive import Watchdog
from pipeline_src.train.build import build_augmentation, build_learner, build_network
from pipeline_src.train.clips import training_format, training_shards, training_stream, validation
from pipeline_src.train.decode_failures import DecodeFailures
from pipeline_src.train.distributed import Ranks, from_main, join_ranks, text_from_main
from pipeline_src.train.learner import Learner
from pipeline_src.train.log import read_log
from pipeline_src.train.loggers import Loggers
from pipeline_src.train.loop import TrainingRun, train
from pipeline_src.train.measure import cost_record
from pipeline_src.train.memory import keep_freed_memory
from pipeline_src.train.precision import agree_on_precision
from pipeline_src.train.progress import TrainProgress
from pipeline_src.train.resume import resume_point
from pipeline_src.train.state import compare_threads, constant_state, describe_again
from pipeline_src.train.stop import StopFlag
from pipeline_src.train.superseded import recall, set_aside
from pipeline_src.train.task import Task, make_task
from pipeline_src.train.teacher import load_teacher

logger = logging.getLogger(__name__)
# In the folder of results: torch's own place, one for temporary files, is lost with the node.
COMPILED_FOLDER = ".torch_compile"


@dataclass(frozen=True)
class Attempt:
    """One start of a training, on one rank.

    Args:
        fingerprint: of ``spec``; its checkpoints are known by it.
        resumed: where an earlier attempt stopped; None at the start.
        heartbeat: told of every sign of life.
    """

    spec: TrainSpec
    fingerprint: str
    ranks: Ranks
    resumed: Checkpoint | None
    heartbeat: Callable[[str], None]


def run_training(spec: TrainSpec, stop: StopFlag) -> Path:
    """Train ``spec`` to its end, from the newest checkpoint of the same fingerprint.

    Args:
        stop: asks for an early end; the state is saved first.

    Returns:
        Path of done.json, which names the checkpoint folder and its sha256.

    Raises:
        TrainingError, CheckpointError, ManifestError: see the message.
        RunInUseError: others train in the same folder.
        LoaderError: a loader process died.
        StopRequestedError: ended early, state saved.
    """
    free_main_thread()
    torch.set_num_threads(min(spec.num_threads, num_cores()))
    keep_freed_memory()
    with ExitStack() as until_published:
        with join_ranks() as ranks:
            beat = until_published.enter_context(_alone_in(spec.run_dir, ranks))
            watchdog = until_published.enter_context(Watchdog(spec.stall_minutes, beat))
            folder = _trained(spec, ranks, stop, watchdog.heartbeat)
        # The group has ended: what a step costs is counted for one process, however many trained.
        return _publish(spec, read_checkpoint(folder)) if ranks.is_main else spec.run_dir


@contextmanager
def _alone_in(run_dir: Path, ranks: Ranks) -> Iterator[Callable[[int, str], None]]:
    """Hold the run's folder for these ranks; give what rank 0 reports its progress with.

    Raises:
        RunInUseError: on every rank, if others train there.
    """
    with ExitStack() as stack:
        lease, refusal = None, ""
        if ranks.is_main:
            try:
                lease = stack.enter_context(held(run_dir))
            except RunInUseError as error:
                refusal = str(error)
        if refusal := text_from_main(refusal, ranks):
            raise RunInUseError(refusal)
        yield lease.beat if lease else lambda signs, last: None


def _trained(
    spec: TrainSpec, ranks: Ranks, stop: StopFlag, heartbeat: Callable[[str], None]
) -> Path:
    """Return the folder of the last checkpoint: of an earlier attempt, or of this training.

    Rank 0 decides which: on a network file system the others may see it later.
    """
    fingerprint, run_dir = spec.fingerprint(), spec.run_dir
    if ranks.is_main:
        recall(run_dir, fingerprint)
    finished = published(run_dir, fingerprint) if ranks.is_main else None
    if finished:
        describe_again(finished, spec)
    if from_main(int(finished is not None), ranks):
        logger.info("%s: is trained already", run_dir)
        return run_dir / PUBLISHED_FOLDER
    resumed = resume_point(run_dir / CHECKPOINTS_FOLDER, fingerprint, ranks)
    if ranks.is_main and resumed is None:
        set_aside(run_dir)
    return _train_on(Attempt(spec, fingerprint, ranks, resumed, heartbeat), stop)


def _publish(spec: TrainSpec, checkpoint: Checkpoint) -> Path:
    """Write the histories and done.json of a finished training; without its log they stay."""
    log, done = spec.run_dir / METRICS_LOG_FILE, spec.run_dir / DONE_FILE
    if not log.exists() and done.exists():
        return done
    rows = read_log(log)
    losses = [row for row in rows if "loss" in row]
    if losses:
        write_history(spec.run_dir / HISTORY_FILE, losses)
    if losses and spec.val_indexes:
        write_history(spec.run_dir / VALIDATION_FILE, [row for row in rows if "val" in row])
    return write_done(
        spec.run_dir,
        checkpoint,
        losses[-1] if losses else {},
        cost_record(spec.model, spec.recipe, checkpoint.state),
    )


def _train_on(attempt: Attempt, stop: StopFlag) -> Path:
    """Build what the loop drives and run it; return the last checkpoint's folder."""
    spec, ranks, resumed = attempt.spec, attempt.ranks, attempt.resumed
    recipe, task = spec.recipe, make_task(spec.model, spec.recipe)
    shards = training_shards(
        spec.train_indexes, spec.remote, label_fraction=task.label_fraction, seed=recipe.seed
    )
    attempt.heartbeat("shards opened")
    progress = TrainProgress(0, task.schedule(len(shards), shards.num_mel_bins))
    if resumed and resumed.step >= progress.num_steps:
        return resumed.folder
    failures = DecodeFailures(shards, recipe.max_decode_errors, ranks)
    run = _build_run(attempt, task, shards, progress, failures)
    dataset = ClipDataset(
        shards,
        training_format(task, spec.model, recipe, shards),
        task.mixup(spec.train_indexes),
        replaces=recipe.max_decode_errors > 0,
    )
    weights = task.clip_weights(shards)
    with training_stream(dataset, weights, recipe, progress, ranks, failures) as batches:
        bind_main_thread()
        return train(run, batches, progress, stop)


def _build_run(
    attempt: Attempt,
    task: Task,
    shards: ShardSet,
    progress: TrainProgress,
    failures: DecodeFailures,
) -> TrainingRun:
    """Unpack the spec into what the loop drives.

    What is called here gets the values that it uses, but for the record in state.json.
    """
    spec, ranks, heartbeat = attempt.spec, attempt.ranks, attempt.heartbeat
    recipe = spec.recipe
    learner = _build_learner(attempt, task, shards, progress)
    validated = replace(training_format(task, spec.model, recipe, shards), training=False)
    held_out = open_shards(spec.val_indexes, spec.remote) if spec.val_indexes else None
    heads = recipe.scored_heads(shards.modalities, learner.model.config.heads)
    return TrainingRun(
        folder=spec.run_dir,
        recipe=recipe,
        learner=learner,
        augment=build_augmentation(recipe.augment, shards),
        validate=validation(held_out, learner.model, validated, heads, recipe, ranks, heartbeat),
        validate_every_steps=task.validation_interval(progress.schedule),
        describe=lambda indices: [shards.samples[i].clip_id for i in indices.tolist()],
        state=constant_state(spec, attempt.fingerprint, shards, task, is_mixed=learner.is_mixed),
        ranks=ranks,
        count_faults=failures.count,
        negatives=lambda step: task.negatives(progress.schedule, step, ranks),
        heartbeat=heartbeat,
        open_loggers=partial(Loggers, spec),
    )


def _build_learner(
    attempt: Attempt, task: Task, shards: ShardSet, progress: TrainProgress
) -> Learner:
    """Build the network and its optimisers; ``progress`` is set to where an attempt resumes."""
    spec, ranks, resumed = attempt.spec, attempt.ranks, attempt.resumed
    recipe = spec.recipe
    model = build_network(
        spec.model,
        shards,
        num_classes=len(task.class_names(shards)),
        num_frames=recipe.num_frames,
        seed=recipe.seed,
        device=ranks.device,
        resumed=resumed,
        start=spec.initial_checkpoint,
    )
    if resumed:
        progress.step, progress.seconds = resumed.step, float(resumed.state["seconds"])
        compare_threads(resumed)
        logger.info("resuming %s at step %d of %d", spec.run_dir, progress.step, progress.num_steps)
    attempt.heartbeat("network built")
    teacher = load_teacher(spec.teacher_checkpoint, model, shards)
    precision = agree_on_precision(recipe.amp, ranks, resumed)
    logger.info("%s: %s (%s)", spec.run_dir, precision.name, precision.reason)
    learner = build_learner(
        recipe,
        task,
        task.objective(model, shards.task, teacher, shards.modalities),
        progress,
        ranks,
        resumed,
        is_mixed=precision.is_mixed,
        compiled_folder=spec.results / COMPILED_FOLDER,
    )
    attempt.heartbeat("state restored" if resumed else "optimiser built")
    return learner
