"""Start a network from the ImageNet weights of an image ViT; new layers keep their random values.

Which tensor goes where: ``image_keys.py``.
"""

import logging
from pathlib import Path

import timm
from torch import Tensor

from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.models.base import AudioVisualModel
from pipeline_src.models.image_keys import IMAGE_TARGETS
from pipeline_src.models.key_report import KeyReport
from pipeline_src.models.tensor_files import read_tensors

logger = logging.getLogger(__name__)

_AVSIAM_NAMES = {
    "small": "vit_small_patch16_224.augreg_in21k",
    "base": "vit_base_patch16_224.augreg_in21k",
    "large": "vit_large_patch16_224.augreg_in21k",
    "huge": "vit_huge_patch14_224.orig_in21k",
}
# The encoders alone: the hub's MAE files hold no decoder.
_MAE_NAMES = {
    "base": "vit_base_patch16_224.mae",
    "large": "vit_large_patch16_224.mae",
    "huge": "vit_huge_patch14_224.mae",
}
TIMM_NAMES = {
    "avsiam": _AVSIAM_NAMES,
    "cav_mae": _MAE_NAMES,
    "mavil": _MAE_NAMES,
    "diffmavil": _MAE_NAMES,
}


def load_image_weights(model: AudioVisualModel, init: str, *, method: str, size: str) -> KeyReport:
    """Fill ``model`` from timm's hub (``init`` "timm") or from an image ViT's state dict.

    Raises:
        ConfigError: the hub cannot be reached, or the file does not exist.
        CheckpointError: the file cannot be read or its tensors do not fit the model.
    """
    source = _download(method, size) if init == "timm" else _read(Path(init))
    report = KeyReport()
    target = _convert(source, model, method, report, origin=init)
    own = model.state_dict()
    for key, value in target.items():
        if own[key].shape != value.shape:
            raise CheckpointError(
                f"{init}: {key} has shape {tuple(value.shape)}, the model needs "
                f"{tuple(own[key].shape)}; choose the matching model.size or overrides"
            )
    model.load_state_dict(target, strict=False)
    copies = model.init_copies()
    report.missing = {
        key: "a copy of other layers" if key.startswith(copies) else "its own start value"
        for key in own
        if key not in target
    }
    logger.info("initial weights from %s: %s", init, report)
    return report


def _download(method: str, size: str) -> dict[str, Tensor]:
    names = TIMM_NAMES[method]
    if size not in names:
        raise ConfigError(
            f"init: timm has no weights of size {size} for {method}; use init: random or one of "
            f"the sizes {', '.join(names)}"
        )
    name = names[size]
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
    return read_tensors(path)


def _convert(
    source: dict[str, Tensor],
    model: AudioVisualModel,
    method: str,
    report: KeyReport,
    *,
    origin: str,
) -> dict[str, Tensor]:
    """Rename, copy and resample an image ViT's tensors; note mapped and unused keys."""
    required = ("patch_embed.proj.weight", "pos_embed")
    absent = [key for key in required if key not in source]
    if absent:
        raise CheckpointError(f"init: {origin} is no image ViT: no {', '.join(absent)}")
    own = model.state_dict()
    target: dict[str, Tensor] = {}
    for key, value in source.items():
        mapped = IMAGE_TARGETS[method](key, value, model)
        mapped = {name: tensor for name, tensor in mapped.items() if name in own}
        if mapped:
            report.mapped[key] = list(mapped)
        else:
            report.unused[key] = "the network has no such layer"
        target.update(mapped)
    return target
