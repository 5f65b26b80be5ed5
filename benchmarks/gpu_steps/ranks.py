"""One rank under DDP and under FSDP2 against none, and a resume against an undisturbed training.

Tiny networks in fp32. A repeat of the undisturbed training says how far kernels that add in any
order are apart by themselves.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu_steps.agreement import SHAPE
from benchmarks.gpu_steps.setting import SMALL, Setting
from benchmarks.timed_steps import Trainer, random_batch
from pipeline_src.config import ModelConfig, PretrainConfig
from pipeline_src.runs.checkpoint import (
    load_optimizers,
    load_weights,
    read_checkpoint,
    save_checkpoint,
)
from pipeline_src.runs.sharded import whole
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.parallel import shard_model

NUM_CLIPS, NUM_STEPS, BROKEN_AT = 10, 4, 2
TOLERANCE = 1e-4
Weights = dict[str, Tensor]
Prepare = Callable[[Trainer], None]


def resume(setting: Setting) -> dict[str, object]:
    """Save, load into a new network and continue, against continuing without that."""
    with tempfile.TemporaryDirectory() as folder:
        state = {"step": BROKEN_AT, "fingerprint": "benchmark"}

        def save(one: Trainer) -> None:
            save_checkpoint(Path(folder), one.objective.model, one.optimizers, state, keep=1)

        def load(one: Trainer) -> None:
            checkpoint = read_checkpoint(next(Path(folder).glob("step_*")))
            load_weights(checkpoint, one.objective.model)
            load_optimizers(checkpoint, one.objective.model, one.optimizers)

        _train(setting, range(BROKEN_AT), after=save)
        resumed = _train(setting, range(BROKEN_AT, NUM_STEPS), before=load)
    return _compared(resumed, *_undisturbed(setting))


def one_rank(setting: Setting, parallel: str) -> dict[str, object]:
    """Train as the only rank of a group, with its collectives, against training alone."""
    alone = _undisturbed(setting)
    backend = "cpu:gloo,cuda:nccl" if setting.on_gpu else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        found = _train(setting, range(NUM_STEPS), before=PREPARE[parallel])
    finally:
        dist.destroy_process_group()
    return _compared(found, *alone)


def _undisturbed(setting: Setting) -> list[Weights]:
    """Weights of two trainings alone, which every step here is held against."""

    def train_twice() -> list[Weights]:
        return [_train(setting, range(NUM_STEPS)) for _ in range(2)]

    return setting.keep("undisturbed", train_twice)


def _copied(one: Trainer) -> None:
    driven = DistributedDataParallel(
        one.objective, find_unused_parameters=one.objective.find_unused_parameters
    )
    one.loss = lambda batch, plan, step_pass: driven(batch, plan, step_pass)["loss"]


def _split(one: Trainer) -> None:
    shard_model(one.objective.model, Ranks(0, 1, one.device))
    one.optimizers = one.make_optimizers()


PREPARE: dict[str, Prepare] = {"ddp": _copied, "fsdp": _split}


def _train(
    setting: Setting,
    steps: range,
    before: Prepare = lambda one: None,
    after: Prepare = lambda one: None,
) -> Weights:
    """Weights after these steps, whose clips and masks depend on their numbers alone."""
    network = {"overrides": SMALL if setting.quick else {}, **SHAPE}
    model = ModelConfig.model_validate({"method": "avsiam", "size": "tiny", **network})
    recipe = PretrainConfig.model_validate({"batch_size": NUM_CLIPS, "amp": False, "lr": 1e-3})
    one = Trainer(model, recipe, setting.device)
    before(one)
    for step in steps:
        torch.manual_seed(step)
        one.generator.manual_seed(step)
        batch = random_batch(NUM_CLIPS, 1, setting.device, model)
        one.step(one.phases[0]._replace(batch_size=NUM_CLIPS), batch)
    after(one)
    return {k: whole(v.detach()).cpu() for k, v in one.objective.model.named_parameters()}


def _compared(own: Weights, reference: Weights, repeated: Weights) -> dict[str, object]:
    """How far apart weights are; as near as a repeat, or within the tolerance, is equal."""
    apart, noise = _distance(own, reference), _distance(repeated, reference)
    bit_equal = all(torch.equal(own[key], value) for key, value in reference.items())
    return {
        "bit_equal": bit_equal,
        "distance": apart,
        "distance_of_a_repeat": noise,
        "agrees": apart <= max(TOLERANCE, 2 * noise),
    }


def _distance(own: Weights, reference: Weights) -> float:
    """L2 norm of the difference over that of the reference."""
    apart = sum((own[key] - value).square().sum() for key, value in reference.items())
    return float((apart / sum(value.square().sum() for value in reference.values())) ** 0.5)
