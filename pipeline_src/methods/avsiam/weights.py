"""AVSiam's weights: from an image ViT and back, and the keys of its released class.

AVSiam (arXiv:2403.19638). From an image: positions stretched over audio, audio kernel = mean over
RGB. The released class holds a second name for every shared block, and tensors it never reads.

Shape legend: L positions, D embed_dim.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from pipeline_src.errors import ConfigError
from pipeline_src.methods.common.image_keys import (
    ImageWeights,
    Targets,
    drop_prefix,
    fit_positions,
    resample_kernels,
    with_suffixes,
)
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.pos_embed import stretch_positions
from pipeline_src.methods.common.published_keys import (
    PublishedClass,
    PublishedKey,
    head_classes,
    unused_norms,
)

VIT = "vit_base."
NUM_IMAGENET_21K_CLASSES = 21843


def image_targets(key: str, value: Tensor, model: AudioVisualModel) -> Targets:
    """Map one tensor of a timm ViT to AVSiam's, each of its own shape."""
    if key == "patch_embed.proj.weight":
        mean = value.mean(dim=1, keepdim=True)
        return resample_kernels(
            model, audio={f"{VIT}patch_embed_a": mean}, video={f"{VIT}patch_embed": value}
        )
    if key == "patch_embed.proj.bias":
        return {f"{VIT}{name}.proj.bias": value for name in ("patch_embed", "patch_embed_a")}
    if key == "pos_embed":
        image_1LD = drop_prefix(value)
        audio_1LD = stretch_positions(image_1LD, model.num_audio_tokens)
        return {
            f"{VIT}pos_embed": fit_positions(image_1LD, model),
            f"{VIT}pos_embed_a": audio_1LD,
        }
    if key in ("norm.weight", "norm.bias"):
        kind = key.removeprefix("norm.")
        return {f"{VIT}norm.{kind}": value, f"{VIT}norm_a.{kind}": value}
    names = [key]
    if ".norm1." in key or ".norm2." in key:
        names = with_suffixes(key, ("_a", "_v"))
    names += [re.sub(r"^blocks\.", "blocks_a.", name) for name in names]
    return {f"{VIT}{name}": value for name in names}


def video_name(key: str, model: AudioVisualModel) -> str:
    """Name one of our tensors as a timm ViT of the frames does; empty where it has no part."""
    del model  # its blocks are counted as timm's
    name = key.removeprefix(VIT)
    if name == key or "_a." in name or name == "pos_embed_a":
        return ""
    return re.sub(r"(norm[12])_v\.", r"\1.", name)


def fold(image: Targets, weights: Mapping[str, Tensor], model: AudioVisualModel) -> Targets:
    """Double patch kernel and positions where the network doubles its input; the shapes stay."""
    del weights
    scale = 2 if model.config.double_input else 1  # type: ignore[attr-defined]
    is_scaled = ("pos_embed", "patch_embed")
    return {k: v * scale if k.startswith(is_scaled) else v for k, v in image.items()}


IMAGE_WEIGHTS = ImageWeights(
    image_targets,
    timm_names={
        "small": "vit_small_patch16_224.augreg_in21k",
        "base": "vit_base_patch16_224.augreg_in21k",
        "large": "vit_large_patch16_224.augreg_in21k",
        "huge": "vit_huge_patch14_224.orig_in21k",
    },
    video_name=video_name,
    fold=fold,
)


def all_keys(live: list[PublishedKey], model: AudioVisualModel) -> list[PublishedKey]:
    """List the keys that the class reads, those it never reads, and second names.

    Raises:
        ConfigError: the network has blocks that no released class has.
    """
    if model.config.encoders == "separate":  # type: ignore[attr-defined]
        raise ConfigError("model.overrides.encoders=separate: no published class has such blocks")
    live = [_with_class_token(key) if key.name == "vit_base.pos_embed" else key for key in live]
    shapes = {key.name: key.shape for key in live}
    dead = [*unused_norms(live), *_unused_of_vit("vit_base", shapes)]
    if "ast_base.norm_a.weight" in shapes:
        dead += _unused_of_vit("ast_base", shapes)
    dead += [
        PublishedKey(name.replace("vit_base.", "my_"), shape)
        for name, shape in shapes.items()
        if name.startswith("vit_base.patch_embed")
    ]
    if model.config.num_classes:
        dead += [
            PublishedKey(name.replace("mlp_head.", "mlp_head_mm_v2."), shape)
            for name, shape in shapes.items()
            if name.startswith("mlp_head.")
        ]
    return [*live, *dead, *_block_aliases([*live, *dead])]


def _with_class_token(key: PublishedKey) -> PublishedKey:
    batch, num_positions, dim = key.shape
    return key._replace(shape=(batch, num_positions + 1, dim), num_prefix=1)


def _unused_of_vit(vit: str, shapes: dict[str, tuple[int, ...]]) -> Iterator[PublishedKey]:
    """List what a ViT holds beside its blocks and never reads."""
    dim = shapes["vit_base.norm.weight"][0]
    yield PublishedKey(f"{vit}.cls_token", (1, 1, dim))
    yield PublishedKey(f"{vit}.head.weight", (NUM_IMAGENET_21K_CLASSES, dim))
    yield PublishedKey(f"{vit}.head.bias", (NUM_IMAGENET_21K_CLASSES,))
    for name, shape in shapes.items():
        own = name.replace("vit_base.", f"{vit}.")
        if name.startswith("vit_base.") and ".blocks." not in name and own not in shapes:
            yield PublishedKey(own, shape)


def _block_aliases(keys: Iterable[PublishedKey]) -> Iterator[PublishedKey]:
    for key in keys:
        if key.name.startswith("vit_base.blocks."):
            alias = re.sub(r"^vit_base\.blocks", "my_blocks", key.name)
            yield PublishedKey(alias, key.shape, alias_of=key.name)


def shown_overrides(source: Mapping[str, Tensor]) -> dict[str, str]:
    """Read constructor arguments off a released file: a pre-trained one may lack the second ViT."""
    if head_classes(source):
        return {}
    has_second = any(key.startswith("ast_base.") for key in source)
    return {"audio_vit": "separate" if has_second else "shared"}


PUBLISHED = PublishedClass(
    "AVSiam", "vit_base.pos_embed_a", all_keys, shown_overrides=shown_overrides
)
