"""From a spec to a trained checkpoint: builds everything, resumes, trains, publishes done.json."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline_src.config import FinetuneConfig, PretrainConfig
from pipeline_src.errors import RunInUseError
from pipeline_src.loader.augment import augment_batch
from pipeline_src.methods.common.objective import Objective
from pipeline_src.runs.build import build_model
from pipeline_src.runs.checkpoint import Checkpoint, load_optimizers, load_weights, read_checkpoint
from pipeline_src.runs.done import published, write_done
from pipeline_src.runs.history import HISTORY_FILE, METRICS_LOG_FILE, VALIDATION_FILE, write_history
from pipeline_src.runs.lease import held
from pipeline_src.runs.preparation import describe_data
from pipeline_src.runs.provenance import git_commit, package_versions
from pipeline_src.runs.spec import CHECKPOINTS_FOLDER, TrainSpec
from pipeline_src.shards.read import ShardSet
from pipeline_src.system.cores import bind_main_thread, free_main_thread, num_cores
from pipeline_src.train.alive import Watchdog
from pipeline_src.train.average import WeightAverage, epoch_end_steps
from pipeline_src.train.clips import training_shards, training_stream, validation
from pipeline_src.train.decode_failures import DecodeFailures
from pipeline_src.train.distributed import Ranks, from_main, join_ranks, text_from_main
from pipeline_src.train.guard import StepGuard
from pipeline_src.train.log import read_metrics
from pipeline_src.train.loop import Run, train
from pipeline_src.train.measure import cost_record
from pipeline_src.train.memory import keep_freed_memory
from pipeline_src.train.objective import build_objective, build_optimizers
from pipeline_src.train.parallel import compile_blocks, shard_model
from pipeline_src.train.plan import step_negatives, training_schedule
from pipeline_src.train.precision import Precision, pick_precision
from pipeline_src.train.progress import TrainProgress
from pipeline_src.train.resume import resume_point, set_aside, start_from
from pipeline_src.train.stop import StopFlag
from pipeline_src.train.teacher import load_teacher

logger = logging.getLogger(__name__)
# In the folder of results: torch's own place, one for temporary files, is lost with the node.
COMPILED_FOLDER = ".torch_compile"


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
    fingerprint = spec.fingerprint()
    if finished := published(spec.run_dir, fingerprint):
        return _publish(spec, finished)
    with (
        join_ranks() as ranks,
        _alone_in(spec.run_dir, ranks) as beat,
        Watchdog(spec.stall_minutes, beat) as watchdog,
    ):
        resumed = resume_point(spec.run_dir / CHECKPOINTS_FOLDER, fingerprint, ranks)
        if ranks.is_main and resumed is None:
            set_aside(spec.run_dir)
        folder = _train_on(spec, ranks, fingerprint, resumed, stop, watchdog.sign)
        return _publish(spec, read_checkpoint(folder)) if ranks.is_main else spec.run_dir


@contextmanager
def _alone_in(run_dir: Path, ranks: Ranks) -> Iterator[Callable[[int, str], None]]:
    """Hold the run's folder for these ranks; what rank 0 tells of itself to whoever looks.

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


def _publish(spec: TrainSpec, checkpoint: Checkpoint) -> Path:
    rows = read_metrics(spec.run_dir / METRICS_LOG_FILE)
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


def _train_on(
    spec: TrainSpec,
    ranks: Ranks,
    fingerprint: str,
    resumed: Checkpoint | None,
    stop: StopFlag,
    sign: Callable[[str], None],
) -> Path:
    shards = training_shards(spec)
    sign("shards opened")
    progress = TrainProgress(0, training_schedule(spec, len(shards), shards.num_mel_bins))
    if resumed and resumed.step >= progress.num_steps:
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
        progress.step, progress.seconds = resumed.step, float(resumed.state["seconds"])
        _compare_threads(resumed)
        logger.info("resuming %s at step %d of %d", spec.run_dir, progress.step, progress.num_steps)
    elif spec.initial_checkpoint:
        start_from(spec.initial_checkpoint, model, shards, spec.model.fit_positions)
    sign("network built")
    teacher = load_teacher(spec, model, shards)
    objective = build_objective(spec, model, shards.task, teacher, shards.modalities)
    model.set_grad_checkpointing(spec.recipe.activation_checkpointing)
    if spec.recipe.compile:
        compile_blocks(model, _compiled_folder(spec))
    shares_tensors = ranks.world_size > 1 and spec.recipe.parallel == "fsdp"
    if shares_tensors:
        shard_model(model, ranks)
    optimizers = build_optimizers(spec, model, objective.passes)
    average = _average(spec, progress)
    if resumed:
        load_optimizers(resumed, model, optimizers)
        average.restore(resumed, model)
    precision = _precision(spec, ranks, resumed)
    sign("state restored" if resumed else "optimiser built")
    failures = DecodeFailures(shards, spec.recipe.max_decode_errors, ranks)
    run = Run(
        folder=spec.run_dir,
        recipe=spec.recipe,
        model=model,
        objective_module=objective,
        objective=_driven(objective, copied=ranks.world_size > 1 and not shares_tensors),
        optimizers=optimizers,
        augment=lambda batch, generator: augment_batch(
            batch,
            generator=generator,
            zero_level=-shards.logmel_mean / shards.logmel_std,
            **spec.recipe.augment.model_dump(),
        ),
        validate=validation(spec, model, shards, ranks, sign),
        validate_every_steps=_validation_steps(spec, progress),
        describe=lambda indices: [shards.samples[i].clip_id for i in indices.tolist()],
        state={**_state(spec, shards, fingerprint), "precision": precision.name},
        ranks=ranks,
        guard=StepGuard(reads_at_once=shares_tensors),
        average=average,
        is_mixed=precision.is_mixed,
        count_faults=failures.count,
        negatives=lambda step: step_negatives(spec.recipe, progress.schedule, step, ranks),
        sign=sign,
    )
    with training_stream(spec, shards, progress, ranks, failures) as batches:
        bind_main_thread()  # once its loader processes have been started
        return train(run, batches, progress, stop)


def _compiled_folder(spec: TrainSpec) -> Path:
    """Where all trainings below one folder of results, <run>/<stage>/..., keep compiled code."""
    run_dir = spec.run_dir.absolute()
    stage = next((path for path in (run_dir, *run_dir.parents) if path.name == spec.stage), run_dir)
    return stage.parents[1] / COMPILED_FOLDER


def _precision(spec: TrainSpec, ranks: Ranks, resumed: Checkpoint | None) -> Precision:
    """What rank 0 finds, on every rank: their machines may differ."""
    begun = resumed.state.get("precision") if resumed else None
    found = pick_precision(spec.recipe.amp, ranks.device, begun)
    if from_main(int(found.is_mixed), ranks) != found.is_mixed:
        name = "float32" if found.is_mixed else "bfloat16"
        found = Precision(name, "rank 0 has it")
    logger.info("%s: %s (%s)", spec.run_dir, found.name, found.reason)
    return found


def _average(spec: TrainSpec, progress: TrainProgress) -> WeightAverage:
    epochs = spec.recipe.average_epochs if isinstance(spec.recipe, FinetuneConfig) else ()
    steps = epoch_end_steps(
        epochs, steps_per_epoch=progress.steps_per_epoch, num_steps=progress.num_steps
    )
    return WeightAverage(steps)


def _driven(objective: Objective, *, copied: bool) -> nn.Module:
    """The objective as the loop calls it: under DDP or plain."""
    assert isinstance(objective, nn.Module)
    if not copied:
        return objective
    unused = objective.find_unused_parameters
    return DistributedDataParallel(objective, find_unused_parameters=unused)


def _validation_steps(spec: TrainSpec, progress: TrainProgress) -> int:
    if isinstance(spec.recipe, PretrainConfig):
        return progress.num_steps
    return max(1, round(spec.recipe.validate_every_epochs * progress.steps_per_epoch))


def _compare_threads(resumed: Checkpoint) -> None:
    """Sums in another order give other last bits, which a training makes larger and larger."""
    before, now = resumed.state.get("num_threads"), torch.get_num_threads()
    if before not in (None, now):
        logger.warning(
            "%s was saved by ranks of %d CPU threads, this one has %d: its losses will differ from "
            "those of an undisturbed run; allow it as many cores for the same ones",
            resumed.folder,
            before,
            now,
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
        "modalities": list(shards.modalities),
        "num_mel_bins": shards.num_mel_bins,
        "logmel_mean": shards.logmel_mean,
        "logmel_std": shards.logmel_std,
        "front_end": dict(shards.front_end),
        **describe_data(spec.train_indexes),
        "num_threads": torch.get_num_threads(),
        "git_commit": git_commit(),
        "versions": package_versions(),
    }
