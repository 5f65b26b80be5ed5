"""Start AVSiam from the ImageNet weights of a timm ViT.

One image network becomes both modalities: its patch kernel goes to video as it is and to audio as
the mean over RGB, its positions are stretched over the audio tokens, each LayerNorm is copied into
an audio and a video norm (AVSiam, arXiv:2403.19638). New layers keep their random values.
"""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.models.avsiam import AVSiam
from pipeline_src.models.pos_embed import stretch_positions

logger = logging.getLogger(__name__)

TIMM_NAMES = {
    "small": "vit_small_patch16_224.augreg_in21k",
    "base": "vit_base_patch16_224.augreg_in21k",
    "large": "vit_large_patch16_224.augreg_in21k",
    "huge": "vit_huge_patch14_224.orig_in21k",
}


@dataclass
class InitReport:
    """What became of each tensor: source keys used and unused, model keys still random."""

    used: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = (("used", self.used), ("unused", self.unused), ("missing", self.missing))
        return "; ".join(f"{len(keys)} {name}: {', '.join(keys) or '-'}" for name, keys in parts)


def load_timm_weights(model: AVSiam, init: str, *, size: str) -> InitReport:
    """Fill ``model`` from timm's hub (``init`` "timm") or from a local state dict of a timm ViT.

    Raises:
        ConfigError: the hub cannot be reached, or the file does not exist.
        CheckpointError: the file cannot be read or its tensors do not fit the model.
    """
    source = _download(size) if init == "timm" else _read(Path(init))
    report = InitReport()
    target = _convert(source, model, report, origin=init)
    own = model.state_dict()
    for key, value in target.items():
        if own[key].shape != value.shape:
            raise CheckpointError(
                f"{init}: {key} has shape {tuple(value.shape)}, the model needs "
                f"{tuple(own[key].shape)}; choose the matching model.size or overrides"
            )
    model.load_state_dict(target, strict=False)
    model.init_fusion()
    report.missing = [k for k in own if k not in target and not k.startswith("mm_layer")]
    logger.info("initial weights from %s: %s", init, report)
    return report


def _download(size: str) -> dict[str, Tensor]:
    if size not in TIMM_NAMES:
        raise ConfigError(
            f"init: timm has no weights of size {size}; use init: random or one of the sizes "
            f"{', '.join(TIMM_NAMES)}"
        )
    name = TIMM_NAMES[size]
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub client's errors have no common base
        raise ConfigError(
            f"init: timm needs {name} from timm's hub, which failed ({type(error).__name__}: "
            f"{error}); download it elsewhere and set init: <path of its state dict>"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"init: {path} is no file; allowed: random, timm, or a state dict's path")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling and safetensors raise many types
        raise CheckpointError(f"init: {path} cannot be read as a state dict: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"init: {path} does not hold a plain dictionary of tensors")
    return state


def _convert(
    source: dict[str, Tensor], model: AVSiam, report: InitReport, *, origin: str
) -> dict[str, Tensor]:
    """Rename, copy and resample timm's tensors; note used and unused keys in ``report``."""
    required = ("patch_embed.proj.weight", "pos_embed")
    absent = [key for key in required if key not in source]
    if absent:
        raise CheckpointError(f"init: {origin} is no timm ViT state dict: no {', '.join(absent)}")
    own = model.state_dict()
    target: dict[str, Tensor] = {}
    for key, value in source.items():
        mapped = {k: v for k, v in _targets(key, value, model).items() if k in own}
        (report.used if mapped else report.unused).append(key)
        target.update(mapped)
    return target


def _targets(key: str, value: Tensor, model: AVSiam) -> dict[str, Tensor]:
    """Map one timm tensor to the model's tensors it fills."""
    vit = "vit_base."
    config = model.config
    if key == "patch_embed.proj.weight":
        video_size = [config.patch_size, config.patch_size]
        return {
            f"{vit}patch_embed.proj.weight": resample_patch_embed(value, video_size),
            f"{vit}patch_embed_a.proj.weight": resample_patch_embed(
                value.mean(dim=1, keepdim=True), list(config.audio_patch)
            ),
        }
    if key == "patch_embed.proj.bias":
        return {f"{vit}{name}.proj.bias": value for name in ("patch_embed", "patch_embed_a")}
    if key == "pos_embed":
        return _position_targets(value, model)
    if key in ("norm.weight", "norm.bias"):
        kind = key.removeprefix("norm.")
        return {f"{vit}norm.{kind}": value, f"{vit}norm_a.{kind}": value}
    if ".norm1." in key or ".norm2." in key:
        stem, _, kind = key.rpartition(".")
        return {f"{vit}{stem}{suffix}.{kind}": value for suffix in ("_a", "_v")}
    return {f"{vit}{key}": value}


def _position_targets(pos_embed_1LD: Tensor, model: AVSiam) -> dict[str, Tensor]:
    """Drop the class token's position, stretch the rest over audio, resample it to the frame."""
    num_positions = pos_embed_1LD.shape[1]
    side = math.isqrt(num_positions)
    image_1LD = pos_embed_1LD[:, num_positions - side * side :]
    video_1LD = image_1LD
    if (side, side) != model.video_grid:
        new_size, old_size = list(model.video_grid), [side, side]
        video_1LD = resample_abs_pos_embed(image_1LD, new_size, old_size, num_prefix_tokens=0)  # type: ignore[operator]
    return {
        "vit_base.pos_embed": video_1LD,
        "vit_base.pos_embed_a": stretch_positions(image_1LD, model.num_audio_tokens),
    }
