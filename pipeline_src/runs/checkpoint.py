"""Checkpoints: a folder that is either complete or absent, weights and optimiser in safetensors.

``step_00000400/`` holds model.safetensors, optimizer.safetensors, where weights are averaged
average.safetensors, and state.json; state.json is written last and names the sha256 of the
others, the clock, the fingerprint of config and data, and the versions.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline_src.errors import CheckpointError
from pipeline_src.runs.records import damaged_file, missing_file, read_json_object
from pipeline_src.runs.sharded import gather, like
from pipeline_src.runs.spec import MODEL_FILE, STATE_FILE, TrainSpec, parse_spec, step_folder
from pipeline_src.system.atomic import file_sha256, fsync, write_json

OPTIMIZER_FILE = "optimizer.safetensors"
AVERAGE_FILE = "average.safetensors"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint folder and its state.json."""

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return int(self.state["step"])

    @cached_property
    def spec(self) -> TrainSpec:
        """What was trained, and how.

        Raises:
            CheckpointError: another version of this project wrote it, or it is damaged.
        """
        advice = "use the version that wrote it, or train or convert it again"
        return parse_spec(self.state.get("spec"), f"{self.folder / STATE_FILE}: spec", advice)


def save_checkpoint(
    parent: Path,
    model: nn.Module,
    optimizers: Mapping[str, Optimizer],
    state: Mapping[str, Any],
    *,
    keep: int,
    writes: bool = True,
    sums: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write ``parent/step_<step>`` atomically and delete all but the ``keep`` newest.

    Args:
        optimizers: one per pass of the step, by name.
        state: JSON values; must hold ``step`` and ``fingerprint``.
        sums: of weights of ``num_averaged`` steps, which ``state`` then holds too.
        writes: every rank calls this, since each may hold a part of the tensors; one writes.
    """
    folder = parent / step_folder(state["step"])
    tensors = {
        MODEL_FILE: gather(model.state_dict().items(), keeps=writes),
        OPTIMIZER_FILE: gather(_optimizer_tensors(model, optimizers), keeps=writes),
    }
    if sums:
        tensors[AVERAGE_FILE] = gather(sums.items(), keeps=writes)
    if not writes:
        return folder
    temporary = parent / f".{folder.name}.{os.getpid()}.part"
    for left in parent.glob(".step_*.part"):  # of a save that was killed
        shutil.rmtree(left)
    temporary.mkdir(parents=True)
    try:
        _write_files(temporary, tensors, state)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # a full disk has to be told with a file
        raise
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    fsync(parent)
    _delete_others(folder, keep)
    return folder


def _write_files(
    folder: Path, tensors: Mapping[str, dict[str, Tensor]], state: Mapping[str, Any]
) -> None:
    for name, values in tensors.items():
        save_file(values, folder / name)
    hashes = {name: file_sha256(folder / name) for name in tensors}
    for name in hashes:
        fsync(folder / name)
    write_json(folder / STATE_FILE, {**state, "sha256": hashes})


def newest_checkpoint(parent: Path, fingerprint: str) -> Checkpoint | None:
    """Return the newest complete checkpoint of this configuration and data, or None."""
    for folder in sorted(parent.glob("step_*"), reverse=True):
        try:
            checkpoint = read_checkpoint(folder)
        except CheckpointError as error:
            logger.warning("skipping %s", error)
            continue
        if checkpoint.state.get("fingerprint") == fingerprint:
            return checkpoint
    return None


def read_checkpoint(folder: Path, advice: str = "", *, is_checked: bool = False) -> Checkpoint:
    """Open a checkpoint folder and check its files against their hashes.

    Args:
        advice: what to do when it is damaged; empty = delete it, an earlier one is there.
        is_checked: another rank has compared the hashes.
    Raises:
        CheckpointError: absent, incomplete or damaged.
    """
    advice = advice or f"delete {folder} to fall back"
    keys = {"step": int, "fingerprint": str, "sha256": dict}
    state = read_json_object(folder / STATE_FILE, keys, advice)
    hashes = state["sha256"]
    if MODEL_FILE not in hashes:
        raise CheckpointError(f"{folder / STATE_FILE}: damaged, no hashes; {advice}")
    damaged = missing_file(folder, hashes) if is_checked else damaged_file(folder, hashes)
    if damaged:
        raise CheckpointError(f"{damaged}: missing or damaged; {advice}")
    return Checkpoint(folder, state)


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Fill ``model`` with exactly the checkpoint's tensors.

    Raises:
        CheckpointError: a key is missing, left over or of another shape.
    """
    load_matching(checkpoint, model)


def load_matching(
    checkpoint: Checkpoint,
    model: nn.Module,
    *,
    allowed_missing: tuple[str, ...] = (),
    allowed_unused: tuple[str, ...] = (),
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> list[str]:
    """Fill ``model``; return the keys that the checkpoint lacks.

    Args:
        adapt: what to do to the checkpoint's tensors first.
        allowed_missing: prefixes of keys that the checkpoint may lack (new heads).
        allowed_unused: prefixes of keys that the model may lack (the decoder).
    Raises:
        CheckpointError: another key is missing, left over or of another shape.
    """
    path = checkpoint.folder / MODEL_FILE
    try:
        tensors = adapt(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    own = model.state_dict()
    missing = [key for key in own if key not in tensors]
    unused = [key for key in tensors if key not in own]
    problems = [f"missing {key}" for key in missing if not key.startswith(allowed_missing)]
    problems += [f"unexpected {key}" for key in unused if not key.startswith(allowed_unused)]
    problems += [
        f"{key} has shape {tuple(tensors[key].shape)}, the model {tuple(value.shape)}"
        for key, value in own.items()
        if key in tensors and value.shape != tensors[key].shape
    ]
    if problems:
        listed = "; ".join(problems[:5])
        raise CheckpointError(
            f"{path}: {len(problems)} keys do not fit this model: {listed}; "
            "name a checkpoint of the same method, size and inputs"
        )
    with torch.no_grad():
        for key, value in own.items():
            if key in tensors:
                value.copy_(tensors[key])
    return missing


def load_optimizers(
    checkpoint: Checkpoint, model: nn.Module, optimizers: Mapping[str, Optimizer]
) -> None:
    """Restore the moments of every optimiser; the groups are rebuilt from the configuration.

    Raises:
        CheckpointError: their file cannot be read.
    """
    path = checkpoint.folder / OPTIMIZER_FILE
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        advice = f"delete {checkpoint.folder} to fall back"
        raise CheckpointError(f"{path}: {error}; {advice}") from error
    names = {id(value): name for name, value in model.named_parameters()}
    for pass_name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                prefix = f"{pass_name}/{names[id(parameter)]}/"
                found = {
                    key: like(value, parameter)  # fused AdamW keeps its step there too
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if (value := tensors.get(prefix + key)) is not None
                }
                if found:
                    optimizer.state[parameter] = found


def load_sums(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Load the sums of weights that the checkpoint was saved with, fp32, in the shapes stored.

    Raises:
        CheckpointError: it has none.
    """
    if AVERAGE_FILE not in checkpoint.state["sha256"]:
        raise CheckpointError(f"{checkpoint.folder}: no {AVERAGE_FILE}; delete it to fall back")
    return load_file(checkpoint.folder / AVERAGE_FILE)


def mean_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the mean weights over the steps of the checkpoint's sums, shape and type as stored."""
    last = load_file(checkpoint.folder / MODEL_FILE)
    num_terms = checkpoint.state["num_averaged"]
    return {
        name: (value / num_terms).to(last[name].dtype)
        for name, value in load_sums(checkpoint).items()
    }


def _optimizer_tensors(
    model: nn.Module, optimizers: Mapping[str, Optimizer]
) -> Iterator[tuple[str, Tensor]]:
    """Yield <pass>/<parameter>/<key> and the value: moments in the parameter's shape, steps 0-d."""
    names = {id(value): name for name, value in model.named_parameters()}
    for pass_name, optimizer in optimizers.items():
        for parameter, values in optimizer.state.items():
            for key, value in values.items():
                yield f"{pass_name}/{names[id(parameter)]}/{key}", value


def _delete_others(newest: Path, keep: int) -> None:
    """Keep ``newest`` and those just before it; later ones were damaged when training resumed."""
    folders = sorted(newest.parent.glob("step_*"))
    earlier = [folder for folder in folders if folder.name <= newest.name]
    for folder in set(folders) - set(earlier[-keep:]):
        shutil.rmtree(folder)
