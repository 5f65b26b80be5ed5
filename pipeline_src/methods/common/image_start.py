"""Start a network from the ImageNet weights of an image ViT; new layers keep their random values.

Which tensor goes where: ``weights.py`` of each method.
"""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from torch import Tensor

from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.methods import find_method
from pipeline_src.methods.common.image_keys import (
    ImageWeights,
    encoder_keys,
    is_beside_encoder,
    square_grid,
)
from pipeline_src.methods.common.key_report import KeyReport
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.tensor_files import read_tensors

logger = logging.getLogger(__name__)
NUM_LISTED = 8
NUM_COLOURS = 3
NEEDED = ("patch_embed.proj.weight", "pos_embed")


def load_image_weights(
    model: AudioVisualModel, init: str, *, method: str, size: str, allow: Sequence[str] = ()
) -> KeyReport:
    """Fill ``model`` from timm's hub (``init`` "timm") or from an image ViT's state dict.

    Args:
        allow: patterns of encoder tensors that may be left unused, or be absent, in spite of it.

    Raises:
        ConfigError: the method has no such start, the hub cannot be reached, or the file does not
            exist.
        CheckpointError: the file cannot be read, its tensors do not fit the model, or it is the
            encoder of another network: a tensor of it is unused, or one is absent.
    """
    weights = find_method(method).load_image_weights()
    if weights is None:
        raise ConfigError(f"init: {method} starts from no image network; use init: random")
    source = _download(weights, method, size) if init == "timm" else _read(Path(init))
    report = KeyReport(allowed=list(allow))
    _refuse_other_encoders(source, model, allow, origin=init)
    target = _convert(source, model, weights, report)
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


def _download(weights: ImageWeights, method: str, size: str) -> dict[str, Tensor]:
    """Load the method's ViT of this size from timm's hub, in the shapes stored there.

    Raises:
        ConfigError: there is none, or the hub cannot be reached.
    """
    names = weights.timm_names
    if size not in names:
        raise ConfigError(
            f"init: timm has no weights of size {size} for {method}; use init: random or one of "
            f"the sizes {', '.join(names)}"
        )
    name = names[size]
    import timm  # late, as in resample.py

    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub client's errors have no common base
        raise ConfigError(
            f"init: timm needs {name} from timm's hub, which failed ({type(error).__name__}: "
            f"{error}); download it elsewhere and set init: <path of its state dict>"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    """Read a state dict, its tensors in the shapes stored.

    Raises:
        ConfigError: there is no such file.
        CheckpointError: it cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"init: {path} is no file; allowed: random, timm, or a state dict's path")
    return read_tensors(path)


def _refuse_other_encoders(
    source: dict[str, Tensor], model: AudioVisualModel, allow: Sequence[str], *, origin: str
) -> None:
    """Refuse what is a ViT in part only: it would be a start that nobody meant.

    Raises:
        CheckpointError: a tensor is absent, unused, or of an impossible shape.
    """
    if absent := [key for key in NEEDED if key not in source]:
        raise CheckpointError(f"init: {origin} is no image ViT: no {', '.join(absent)}")
    _check_shapes(source, origin)
    expected = encoder_keys(model.config.depth)
    unused = [key for key in source if key not in expected and not is_beside_encoder(key)]
    absent = [key for key in expected if key not in source]
    listed = [
        f"{len(left)} {what}: {', '.join(left[:NUM_LISTED])}" + (" ..." * (len(left) > NUM_LISTED))
        for what, keys in (("unused", unused), ("missing", absent))
        if (left := [k for k in keys if not any(fnmatchcase(k, one) for one in allow)])
    ]
    if listed:
        raise CheckpointError(
            f"{origin} is not the encoder of a plain ViT with depth={model.config.depth} blocks: "
            f"tensors {'; '.join(listed)}. Take such a ViT, set model.overrides.depth, or convert "
            "it with --from image and name each exception by --allow PATTERN"
        )
    square_grid(source, origin, takes_doubt=any(fnmatchcase("pos_embed", one) for one in allow))


def _check_shapes(source: dict[str, Tensor], origin: str) -> None:
    """Check that kernel and positions are those of a network of pictures.

    Raises:
        CheckpointError: they are not.
    """
    kernel, positions = (tuple(source[key].shape) for key in NEEDED)
    if len(kernel) != 4 or kernel[2] != kernel[3] or not all(kernel):
        raise CheckpointError(
            f"{origin}: patch_embed.proj.weight has shape {kernel}, an image ViT's (width, "
            f"{NUM_COLOURS}, side, side); start from an image network"
        )
    if kernel[1] != NUM_COLOURS:
        raise CheckpointError(
            f"{origin}: patch_embed.proj.weight takes {kernel[1]} channels, not the "
            f"{NUM_COLOURS} of a picture; start from an image network"
        )
    if len(positions) != 3 or positions[0] != 1 or positions[2] != kernel[0] or not positions[1]:
        raise CheckpointError(
            f"{origin}: pos_embed has shape {positions}, an image ViT's (1, positions, "
            f"{kernel[0]}); start from an image network"
        )


def _convert(
    source: dict[str, Tensor], model: AudioVisualModel, weights: ImageWeights, report: KeyReport
) -> dict[str, Tensor]:
    """Rename, copy and resample an image ViT's tensors; note mapped and unused keys.

    Shapes are the network's where the ViT fits it, which the caller checks.
    """
    own = model.state_dict()
    target: dict[str, Tensor] = {}
    for key, value in source.items():
        mapped = weights.targets(key, value, model)
        mapped = {name: tensor for name, tensor in mapped.items() if name in own}
        if mapped:
            report.mapped[key] = list(mapped)
        else:
            report.unused[key] = "the network has no such layer"
        target.update(mapped)
    return target
