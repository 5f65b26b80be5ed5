"""Outputs, losses and gradients on the device against those on the CPU; packed against groups.

A network of size tiny with the same weights, clips and masks in every case. A distance is the L2
norm of the difference over that of what the CPU computes in fp32: of the features of both
modalities together, of all predicted patches, of a pass's loss, of its gradients of all parameters.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.gpu_steps.setting import SMALL, Setting
from benchmarks.timed_steps import Trainer, random_batch
from pipeline_src.config import ModelConfig, PretrainConfig
from pipeline_src.methods.common.masking import draw_noise, mask_from_noise
from pipeline_src.methods.mavil.views import move

CPU = torch.device("cpu")
PRECISIONS = {"fp32": False, "bf16": True}
TOLERANCE = {"fp32": 1e-3, "bf16": 0.05}
GRADIENT_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}
MASK_RATIO = 0.75  # of the predictions
SHAPE = {"img_size": 64, "target_length": 128}
NUM_CLIPS = 10  # two for each of five ratios
FRAMES = {"mavil": 8, "diffmavil": 8}
Tensors = dict[str, Tensor]
Distances = dict[str, float]


def method(setting: Setting, name: str) -> dict[str, object]:
    """Distances of one method's outputs, losses and gradients, per precision."""
    reference = _make(setting, name, CPU)
    exact = _everything(reference, mixed=False)
    found: dict[str, dict[str, Distances]] = {}
    for precision, mixed in PRECISIONS.items():
        own = _everything(_copy(setting, name, reference), mixed=mixed)
        on_cpu = _everything(reference, mixed=True) if mixed else exact
        found[precision] = {
            key: {"distance": _distance(own[key], value), "cpu": _distance(on_cpu[key], value)}
            for key, value in exact.items()
        }
    return {**found, "agrees": _agree(found)}


def packing(setting: Setting) -> dict[str, object]:
    """AVSiam's contrastive pass as one batch against one group after the other, on the device."""
    reference = _make(setting, "avsiam", CPU)
    found: dict[str, dict[str, Distances]] = {}
    for precision, mixed in PRECISIONS.items():
        packed, groups = (
            _losses(_copy(setting, "avsiam", reference, pack), mixed=mixed)
            for pack in ("always", "never")
        )
        found[precision] = {
            key: {"distance": _distance(packed[key], value)} for key, value in groups.items()
        }
    return {**found, "agrees": _agree(found)}


def _agree(found: dict[str, dict[str, Distances]]) -> bool:
    """Whether every distance is a number below the tolerance of its precision and kind."""
    return all(
        one["distance"] < (GRADIENT_TOLERANCE if "gradients" in kind else TOLERANCE)[precision]
        for precision, kinds in found.items()
        for kind, one in kinds.items()
    )


def _make(setting: Setting, name: str, device: torch.device, pack: str = "auto") -> Trainer:
    frames = 2 if setting.quick and name in FRAMES else FRAMES.get(name, 1)
    recipe = {"num_frames": frames, "batch_size": NUM_CLIPS, "pack_sequences": pack, "amp": False}
    network = {"overrides": SMALL if setting.quick else {}, **SHAPE}
    model = ModelConfig.model_validate({"method": name, "size": "tiny", **network})
    return Trainer(model, PretrainConfig.model_validate(recipe), device)


def _copy(setting: Setting, name: str, reference: Trainer, pack: str = "auto") -> Trainer:
    """The same network on the device that is measured."""
    copied = _make(setting, name, setting.device, pack)
    _module(copied).load_state_dict(_module(reference).state_dict())
    return copied


def _everything(one: Trainer, *, mixed: bool) -> dict[str, Tensors]:
    return {**_outputs(one, mixed=mixed), **_losses(one, mixed=mixed)}


def _outputs(one: Trainer, *, mixed: bool) -> dict[str, Tensors]:
    """Features of whole clips, and the patches predicted from masked ones."""
    model, batch = one.objective.model, _batch(one)
    logmel, frames = batch["logmel"], batch["frames"]
    generator = torch.Generator().manual_seed(0)
    masks = [
        mask_from_noise(draw_noise(len(logmel), num_tokens, generator), MASK_RATIO)
        for num_tokens in (model.num_audio_tokens, model.num_video_tokens)
    ]
    audio_mask, video_mask = (move(mask, one.device) for mask in masks)
    with torch.no_grad(), _exact(), _cast(one, mixed):
        features = model.embed(logmel, frames)
        audio, video = model.forward_reconstruct(logmel, frames, audio_mask, video_mask)
    return {"features": _kept(features), "predictions": _kept({"audio": audio, "video": video})}


def _losses(one: Trainer, *, mixed: bool) -> dict[str, Tensors]:
    """Loss and gradients of every pass of a step whose clips and masks are drawn on the CPU."""
    batch, ratios = _batch(one), one.phases[0].ratios
    assert ratios is not None
    generator, num_clips = torch.Generator().manual_seed(0), len(batch["logmel"])
    plan = one.objective.draw(num_clips, ratios, generator, one.device, None)
    found = {}
    for step_pass in one.objective.passes:
        _module(one).zero_grad(set_to_none=True)
        with _exact(), _cast(one, mixed):
            loss = one.loss(batch, plan, step_pass)
        with _exact():
            loss.backward()
        named = _module(one).named_parameters()
        found[f"{step_pass} loss"] = _kept({"loss": loss})
        found[f"{step_pass} gradients"] = _kept({k: v.grad for k, v in named if v.grad is not None})
    return found


def _batch(one: Trainer) -> Tensors:
    """The same clips on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batch = random_batch(one.recipe.batch_size, one.recipe.num_frames, CPU, one.model)
    return {key: value.to(one.device) for key, value in batch.items()}


def _cast(one: Trainer, mixed: bool) -> torch.autocast:
    return torch.autocast(one.device.type, dtype=torch.bfloat16, enabled=mixed)


def _kept(tensors: Tensors) -> Tensors:
    """On the CPU in fp32, whatever becomes of these."""
    return {name: value.detach().float().cpu().clone() for name, value in tensors.items()}


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


def _distance(own: Tensors, reference: Tensors) -> float:
    if own.keys() != reference.keys():
        raise ValueError(f"other tensors: {own.keys() ^ reference.keys()}")
    apart = sum((own[k] - v).square().sum() for k, v in reference.items())
    whole = sum(v.square().sum() for v in reference.values())
    return float((apart / whole) ** 0.5)
