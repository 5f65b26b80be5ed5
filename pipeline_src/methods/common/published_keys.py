"""The state dicts of the published classes, key by key, and what each key is in ours.

AVSiam (arXiv:2403.19638) and CAV-MAE (arXiv:2210.07839): live keys keep their names here, but for
the decoder's, which are below ``decoder.``. The published classes also hold tensors that they
never read, and AVSiam's a second name for every shared block.

Shape legend: D embed_dim.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline_src.errors import ConfigError
from pipeline_src.methods import split_name
from pipeline_src.methods.common.network import AudioVisualModel

RELEASED_METHODS = ("avsiam", "cav_mae")  # with public pre-training weights
NUM_IMAGENET_21K_CLASSES = 21843
NORM_KEYS = tuple(
    f"norm{number}{suffix}.{kind}"
    for number in (1, 2)
    for suffix in ("", "_a", "_v")
    for kind in ("weight", "bias")
)


class PublishedKey(NamedTuple):
    """One tensor of a published class.

    ``ours`` is our name of it, empty where the class never reads it; ``alias_of`` the published
    name that the same tensor has; ``num_prefix`` how many positions it holds before ours.
    """

    name: str
    shape: tuple[int, ...]
    ours: str = ""
    alias_of: str = ""
    num_prefix: int = 0


def published_keys(name: str, model: AudioVisualModel) -> list[PublishedKey]:
    """Every key of the released class of ``name``'s method with the structure of ``model``.

    Raises:
        ConfigError: the method has no released weights, or none of this structure.
    """
    method = split_name(name)[0]
    if method not in RELEASED_METHODS:
        raise ConfigError(
            f"{name}: no pre-training weights of {method} are published; an image ViT can start it "
            "(--from image --variant reconstruction)"
        )
    if getattr(model.config, "encoders", "shared") == "separate":
        raise ConfigError(f"{name}, encoders=separate: no published class has such blocks")
    live = [
        PublishedKey(_published_name(key), tuple(value.shape), ours=key)
        for key, value in model.state_dict().items()
        if "temporal_embed" not in key  # ours alone
    ]
    if method == "avsiam":
        return _avsiam_keys(live, model)
    return [*live, *_unused_norms(live)]


def _published_name(key: str) -> str:
    name = key.removeprefix("decoder.")
    return name if name in (key, "mask_token") else f"decoder_{name}"


def _avsiam_keys(live: list[PublishedKey], model: AudioVisualModel) -> list[PublishedKey]:
    live = [_with_class_token(key) if key.name == "vit_base.pos_embed" else key for key in live]
    shapes = {key.name: key.shape for key in live}
    dead = [*_unused_norms(live), *_unused_of_vit("vit_base", shapes)]
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
    """What a ViT holds beside its blocks and never reads."""
    dim = shapes["vit_base.norm.weight"][0]
    yield PublishedKey(f"{vit}.cls_token", (1, 1, dim))
    yield PublishedKey(f"{vit}.head.weight", (NUM_IMAGENET_21K_CLASSES, dim))
    yield PublishedKey(f"{vit}.head.bias", (NUM_IMAGENET_21K_CLASSES,))
    for name, shape in shapes.items():
        own = name.replace("vit_base.", f"{vit}.")
        if name.startswith("vit_base.") and ".blocks." not in name and own not in shapes:
            yield PublishedKey(own, shape)


def _unused_norms(live: Iterable[PublishedKey]) -> Iterator[PublishedKey]:
    """Every block of a published class has three norm pairs; ours have those that are read."""
    names = {key.name for key in live}
    for key in live:
        stem = key.name.removesuffix("attn.qkv.weight")
        if stem != key.name:
            yield from (
                PublishedKey(stem + norm, (key.shape[1],))
                for norm in NORM_KEYS
                if stem + norm not in names
            )


def _block_aliases(keys: Iterable[PublishedKey]) -> Iterator[PublishedKey]:
    for key in keys:
        if key.name.startswith("vit_base.blocks."):
            alias = re.sub(r"^vit_base\.blocks", "my_blocks", key.name)
            yield PublishedKey(alias, key.shape, alias_of=key.name)
