"""Build a network by name."""

from typing import Any

from pydantic import ValidationError

from pipeline_src.errors import ConfigError
from pipeline_src.models.avsiam import AVSiam
from pipeline_src.models.avsiam_config import SIZES, VARIANTS, AVSiamConfig
from pipeline_src.models.init import load_timm_weights

METHOD = "avsiam"
MODEL_NAMES = tuple(f"{METHOD}_{size}" for size in SIZES)


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
    if name not in MODEL_NAMES:
        raise ConfigError(f"model {name!r} is unknown; allowed: {', '.join(MODEL_NAMES)}")
    if variant not in VARIANTS:
        raise ConfigError(f"variant {variant!r} is unknown; allowed: {', '.join(VARIANTS)}")
    size = name.removeprefix(f"{METHOD}_")
    config = _make_config(
        name, {**SIZES[size], **VARIANTS[variant], **overrides, "num_classes": num_classes}
    )
    model = AVSiam(config)
    if init != "random":
        load_timm_weights(model, init, size=size)
    return model


def _make_config(name: str, values: dict[str, Any]) -> AVSiamConfig:
    allowed = sorted(set(AVSiamConfig.model_fields) - {"num_classes"})
    unknown = sorted(set(values) - set(AVSiamConfig.model_fields))
    if unknown:
        raise ConfigError(
            f"{name}: unknown override {', '.join(unknown)}; allowed: {', '.join(allowed)}, variant"
        )
    try:
        return AVSiamConfig(**values)
    except ValidationError as error:
        problems = "; ".join(_describe(item) for item in error.errors())
        raise ConfigError(f"{name}: {problems}") from error


def _describe(item: Any) -> str:
    """Name one field pydantic refuses, with its value."""
    if not item["loc"]:
        return item["msg"]
    return f"{'.'.join(map(str, item['loc']))}={item['input']!r}: {item['msg']}"
