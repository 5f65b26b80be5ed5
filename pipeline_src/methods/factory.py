"""Build a network by name; the methods are registered in ``methods/__init__.py``."""

from typing import Any

from pipeline_src.methods import MODEL_NAMES, find_method, make_network_config, split_name
from pipeline_src.methods.common.image_start import load_image_weights
from pipeline_src.methods.common.network import AudioVisualModel

__all__ = ["MODEL_NAMES", "create_model"]


def create_model(
    name: str,
    *,
    num_classes: int = 0,
    init: str = "random",
    variant: str = "",
    **overrides: Any,
) -> AudioVisualModel:
    """Build a network and fill its weights.

    Args:
        name: one of ``MODEL_NAMES``, e.g. "avsiam_base".
        num_classes: 0 = with the pre-training decoder; more = with classification heads instead.
        init: "random"; "timm" = ImageNet weights from timm's hub; or the path of an image ViT's
            state dict (.safetensors or .pth).
        variant: sets the defaults that ``overrides`` may change; empty = the method's first, which
            for AVSiam and CAV-MAE is "paper" beside "released".
        overrides: fields of the method's config.

    Raises:
        ConfigError: a name, variant, override or weights file that does not exist or does not fit.
    """
    config = make_network_config(name, variant=variant, num_classes=num_classes, **overrides)
    method, size = split_name(name)
    model = find_method(method).load_network()(config)
    if init != "random":
        load_image_weights(model, init, method=method, size=size)
    return model
