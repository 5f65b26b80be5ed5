"""What state.json of a checkpoint says besides its progress, and what a resumed run compares."""

import logging
from typing import Any

import torch

from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.runs.preparation import describe_data
from pipeline_src.runs.provenance import git_commit, package_versions
from pipeline_src.runs.spec import STATE_FILE, TrainSpec
from pipeline_src.shards.shard_set import ShardSet
from pipeline_src.system.atomic import write_json
from pipeline_src.train.task import Task

logger = logging.getLogger(__name__)


def constant_state(
    spec: TrainSpec, fingerprint: str, shards: ShardSet, task: Task, *, is_mixed: bool
) -> dict[str, Any]:
    """Return the entries of state.json that stay the same throughout a training."""
    return {
        "fingerprint": fingerprint,
        "config_sha256": spec.config_sha256(),
        "data_sha256": spec.data_sha256(),
        "trained_on": spec.trained_on(),
        "seed": spec.recipe.seed,
        "spec": spec.model_dump(mode="json"),
        "class_names": list(task.class_names(shards)),
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
        "precision": "bfloat16" if is_mixed else "float32",
    }


def describe_again(finished: Checkpoint, spec: TrainSpec) -> None:
    """Keep what a finished training says of its data up to date: licences may have been added."""
    data = describe_data(spec.train_indexes)["data"]
    if data != finished.state.get("data"):
        write_json(finished.folder / STATE_FILE, {**finished.state, "data": data})


def compare_threads(resumed: Checkpoint) -> None:
    """Warn of another number of threads: sums in another order give other last bits."""
    before, now = resumed.state.get("num_threads"), torch.get_num_threads()
    if before not in (None, now):
        logger.warning(
            "%s was saved by ranks of %d CPU threads, this one has %d: its losses will differ from "
            "those of an undisturbed run; allow it as many cores for the same ones",
            resumed.folder,
            before,
            now,
        )
