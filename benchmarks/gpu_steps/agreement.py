"""Losses and gradients on the device against those on the CPU, and packed against group by group.

A network of size tiny with the same weights, clips and masks in every case. A distance is the L2
norm of the difference over that of the CPU's fp32 gradient, all parameters together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.gpu_steps.setting import Setting
from benchmarks.timed_steps import Trainer, random_batch
from pipeline_src.config import ModelConfig, PretrainConfig

CPU = torch.device("cpu")
TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}
SHAPE = {"img_size": 64, "target_length": 128}
NUM_CLIPS = 10  # two for each of five ratios
FRAMES = {"mavil": 8, "diffmavil": 8}


class Outcome(NamedTuple):
    """Of a pass: its loss, and every gradient on the CPU in fp32."""

    loss: float
    gradients: dict[str, Tensor]


def method(setting: Setting, name: str) -> dict[str, object]:
    """Distances of one method, per precision and pass."""
    reference = _make(setting, name, CPU)
    found: dict[str, object] = {"agrees": True}
    exact = _outcomes(reference, mixed=False)
    for precision, mixed in (("fp32", False), ("bf16", True)):
        own = _outcomes(_copy(setting, name, reference), mixed=mixed)
        on_cpu = _outcomes(reference, mixed=True) if mixed else exact
        for step_pass, outcome in own.items():
            distance = _distance(outcome, exact[step_pass])
            found[f"{precision} {step_pass}"] = {
                "loss": outcome.loss,
                "cpu_fp32_loss": exact[step_pass].loss,
                "gradient_distance": distance,
                "cpu_gradient_distance": _distance(on_cpu[step_pass], exact[step_pass]),
            }
            found["agrees"] = bool(found["agrees"]) and distance < TOLERANCE[precision]
    return found


def packing(setting: Setting) -> dict[str, object]:
    """AVSiam's contrastive pass as one batch against one group after the other, on the device."""
    reference, found = _make(setting, "avsiam", CPU), {}
    for precision, mixed in (("fp32", False), ("bf16", True)):
        packed, groups = (
            _outcomes(_copy(setting, "avsiam", reference, pack), mixed=mixed)["contrast"]
            for pack in ("always", "never")
        )
        found[f"{precision}_loss_difference"] = abs(packed.loss - groups.loss)
        found[f"{precision}_gradient_distance"] = _distance(packed, groups)
    agrees = all(found[f"{key}_gradient_distance"] < TOLERANCE[key] for key in TOLERANCE)
    return {**found, "agrees": agrees}


def _make(setting: Setting, name: str, device: torch.device, pack: str = "auto") -> Trainer:
    frames = 2 if setting.quick and name in FRAMES else FRAMES.get(name, 1)
    recipe = {"num_frames": frames, "batch_size": NUM_CLIPS, "pack_sequences": pack, "amp": False}
    model = ModelConfig.model_validate({"method": name, "size": "tiny", **SHAPE})
    return Trainer(model, PretrainConfig.model_validate(recipe), device)


def _copy(setting: Setting, name: str, reference: Trainer, pack: str = "auto") -> Trainer:
    """The same network on the device that is measured."""
    copied = _make(setting, name, setting.device, pack)
    _module(copied).load_state_dict(_module(reference).state_dict())
    return copied


def _outcomes(one: Trainer, *, mixed: bool) -> dict[str, Outcome]:
    """Every pass of a step whose clips and masks are drawn on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batch = random_batch(NUM_CLIPS, one.recipe.num_frames, CPU, one.model)
    batch = {key: value.to(one.device) for key, value in batch.items()}
    ratios = one.phases[0].ratios
    assert ratios is not None
    plan = one.objective.draw(NUM_CLIPS, ratios, torch.Generator().manual_seed(0), one.device, None)
    found = {}
    for step_pass in one.objective.passes:
        _module(one).zero_grad(set_to_none=True)
        with _exact(), torch.autocast(one.device.type, dtype=torch.bfloat16, enabled=mixed):
            loss = one.loss(batch, plan, step_pass)
        with _exact():
            loss.backward()
        named = _module(one).named_parameters()
        gradients = {k: v.grad.detach().cpu().clone() for k, v in named if v.grad is not None}
        found[step_pass] = Outcome(loss.item(), gradients)
    return found


def _module(one: Trainer) -> nn.Module:
    assert isinstance(one.objective, nn.Module)
    return one.objective


@contextmanager
def _exact() -> Iterator[None]:
    """Convolutions of fp32 in fp32: cuDNN's TF32 is on by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _distance(own: Outcome, reference: Outcome) -> float:
    if own.gradients.keys() != reference.gradients.keys():
        raise ValueError(
            f"gradients of other parameters: {own.gradients.keys() ^ reference.gradients.keys()}"
        )
    apart = sum((own.gradients[k] - v).square().sum() for k, v in reference.gradients.items())
    whole = sum(v.square().sum() for v in reference.gradients.values())
    return float((apart / whole) ** 0.5)
