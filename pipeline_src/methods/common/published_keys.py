"""The state dict of a released class, key by key, and what each key is in ours.

Live keys keep their names here, but for the decoder's, which are below ``decoder.``. Released
classes also hold tensors that they never read; which, is in ``weights.py`` of each method.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from pipeline_src.errors import ConfigError
from pipeline_src.methods import METHODS, find_method, split_name
from pipeline_src.methods.common.network import AudioVisualModel

OURS_ALONE = ("temporal_embed", "register_tokens")
HEAD_KEYS = ("mlp_head.1.bias", "classifier_head.bias")
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


class PublishedClass(NamedTuple):
    """The released class of a method.

    Args:
        title: its name in messages.
        signature: a key that its state dicts have and no others.
        all_keys: (live keys, network) -> every key of the class with the network's structure.
        extensions: parts of the names of our tensors that it lacks.
        shown_overrides: state dict -> constructor arguments that follow from its keys.
    """

    title: str
    signature: str
    all_keys: Callable[[list[PublishedKey], AudioVisualModel], list[PublishedKey]]
    extensions: tuple[str, ...] = OURS_ALONE
    shown_overrides: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda source: {}


def published_classes() -> list[PublishedClass]:
    """List every released class that is known."""
    classes = (find_method(name).load_published() for name in METHODS)
    return [one for one in classes if one]


def published_keys(name: str, model: AudioVisualModel) -> list[PublishedKey]:
    """List the keys of the released class of ``name``'s method with the structure of ``model``.

    Raises:
        ConfigError: the method has no released weights, or none of this structure.
    """
    method = find_method(split_name(name)[0])
    published = method.load_published()
    if published is None:
        raise ConfigError(
            f"{name}: no pre-training weights of its method are published; an image ViT can start "
            f"it (--from image --variant {next(iter(method.config.variants))})"
        )
    live = [
        PublishedKey(_published_name(key), tuple(value.shape), ours=key)
        for key, value in model.state_dict().items()
        if not any(part in key for part in published.extensions)
    ]
    return published.all_keys(live, model)


def _published_name(key: str) -> str:
    name = key.removeprefix("decoder.")
    return name if name in (key, "mask_token") else f"decoder_{name}"


def head_classes(source: Mapping[str, Tensor]) -> int:
    """Count the classes of a published fine-tuned model; 0 for a pre-trained one."""
    heads = [source[key] for key in HEAD_KEYS if key in source]
    return len(heads[0]) if heads else 0


def unused_norms(live: Iterable[PublishedKey]) -> Iterator[PublishedKey]:
    """List the norms that ours lack: each published block has three pairs, not all of them read."""
    names = {key.name for key in live}
    for key in live:
        stem = key.name.removesuffix("attn.qkv.weight")
        if stem != key.name:
            yield from (
                PublishedKey(stem + norm, (key.shape[1],))
                for norm in NORM_KEYS
                if stem + norm not in names
            )
