"""Build a network by name."""

from typing import Any

from pipeline_src.architectures import MODEL_NAMES, make_architecture
from pipeline_src.models.avsiam import AVSiam
from pipeline_src.models.init import load_timm_weights

__all__ = ["MODEL_NAMES", "create_model"]


def create_model(
    name: str,
    *,
    num_classes: int = 0,
    init: str = "random",
    variant: str = "paper",
    **overrides: Any,
) -> AVSiam:
    """Build a network and fill its weights.

    Args:
        name: one of ``MODEL_NAMES``, e.g. "avsiam_base".
        num_classes: 0 = with the pre-training decoder; more = with classification heads instead.
        init: "random"; "timm" = ImageNet weights from timm's hub; or the path of a timm ViT state
            dict (.safetensors or .pth).
        variant: "paper" or "released"; sets the defaults that ``overrides`` may change.
        overrides: fields of ``AVSiamConfig``.

    Raises:
        ConfigError: a name, variant, override or weights file that does not exist or does not fit.
    """
    config = make_architecture(name, variant=variant, num_classes=num_classes, **overrides)
    model = AVSiam(config)
    if init != "random":
        load_timm_weights(model, init, size=name.removeprefix("avsiam_"))
    return model
