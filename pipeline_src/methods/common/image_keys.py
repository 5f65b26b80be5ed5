"""What is known of an image ViT's tensors, and what methods that start from one share.

Which of our tensors each of them fills is in ``weights.py`` of each method.

Shape legend: L positions (Lv of a frame), D embed_dim.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from pipeline_src.errors import CheckpointError
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.resample import resample_kernel, resample_positions

Targets = dict[str, Tensor]
# The encoders of ImageNet MAEs by size: the hub's files hold no decoder.
MAE_NAMES = {
    "base": "vit_base_patch16_224.mae",
    "large": "vit_large_patch16_224.mae",
    "huge": "vit_huge_patch14_224.mae",
}


class ImageWeights(NamedTuple):
    """How a method starts from an image ViT and, where it can, goes back to one.

    Args:
        targets: (key, tensor, network) -> our tensors that it fills; names that the network has
            not are left out.
        timm_names: size -> timm's name of the ViT that ``init: timm`` loads.
        video_name: (our key, network) -> its name in a ViT of the frames, or empty.
        fold: (ViT, our weights, network) -> the ViT with what it has no place for put into its
            patch kernel and positions.
    """

    targets: Callable[[str, Tensor, AudioVisualModel], Targets]
    timm_names: Mapping[str, str]
    video_name: Callable[[str, AudioVisualModel], str] | None = None
    fold: Callable[[Targets, Mapping[str, Tensor], AudioVisualModel], Targets] | None = None


def resample_kernels(
    model: AudioVisualModel, *, audio: dict[str, Tensor], video: dict[str, Tensor]
) -> Targets:
    """Resample patch kernels, by the name of their embedding, to the patches of the model.

    Returns:
        (D, channels, patch height, patch width) each.
    """
    side = model.config.patch_size
    sizes = [(audio, list(model.config.audio_patch)), (video, [side, side])]
    return {
        f"{name}.proj.weight": resample_kernel(kernel, size)
        for kernels, size in sizes
        for name, kernel in kernels.items()
    }


def with_suffixes(key: str, suffixes: tuple[str, ...]) -> list[str]:
    """Name the norm ``key`` under each suffix."""
    stem, _, kind = key.rpartition(".")
    return [f"{stem}{suffix}.{kind}".removeprefix(".") for suffix in suffixes]


def drop_prefix(pos_embed_1LD: Tensor) -> Tensor:
    """Leave out the class token's position: the square grid (1, L, D) that remains."""
    num_positions = pos_embed_1LD.shape[1]
    return pos_embed_1LD[:, num_positions - math.isqrt(num_positions) ** 2 :]


def fit_positions(image_1LD: Tensor, model: AudioVisualModel) -> Tensor:
    """Resample a square grid of positions to the frame's: (1, Lv, D)."""
    side = math.isqrt(image_1LD.shape[1])
    if (side, side) == model.video_grid:
        return image_1LD
    return resample_positions(image_1LD, (side, side), model.video_grid)


_BLOCK_PARTS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
# What a ViT has beside its encoder, or what no network here has a place for by design: a class
# token, classifiers, and the decoder and mask token of a masked autoencoder.
_BESIDE_ENCODER = re.compile(
    r"cls_token|mask_token|(head|head_dist|pre_logits|decoder)\..*|decoder_.*"
)


def encoder_keys(depth: int) -> dict[str, None]:
    """Name, in order, every tensor of a plain ViT's encoder, class token left out."""
    layers = [f"blocks.{number}.{part}" for number in range(depth) for part in _BLOCK_PARTS]
    layers = ["patch_embed.proj", *layers, "norm"]
    named = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    return dict.fromkeys(["pos_embed", *named])


def is_beside_encoder(key: str) -> bool:
    """Tell whether a tensor of an image network takes no part in encoding patches."""
    return _BESIDE_ENCODER.fullmatch(key) is not None


def square_grid(source: Mapping[str, Tensor], origin: str, *, takes_doubt: bool = False) -> int:
    """Return the side of the square of patches that an image ViT has positions for.

    Args:
        takes_doubt: believes a square that leaves the class token of the file no position.

    Raises:
        CheckpointError: its positions, those of class and register tokens left out, are no square.
    """
    num_positions = source["pos_embed"].shape[1]
    class_tokens = source["cls_token"].shape[1] if "cls_token" in source else 0
    registers = source["reg_token"].shape[1] if "reg_token" in source else 0
    side = math.isqrt(num_positions)
    num_others = num_positions - side**2
    if num_others not in (0, class_tokens, class_tokens + registers):
        raise CheckpointError(
            f"{origin}: pos_embed has {num_positions} positions, {class_tokens} of a class token: "
            "the others are no square grid, so which patch is where is not known"
        )
    if class_tokens and not num_others and not takes_doubt:  # 3 x 5 patches and a class token?
        raise CheckpointError(
            f"{origin}: pos_embed has {num_positions} positions and there is a class token: either "
            f"it has none of its own, then convert with --allow pos_embed, or the grid is no square"
        )
    return side
