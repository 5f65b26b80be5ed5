"""The registry of methods, and the constructor arguments of their networks, checked.

A method is a folder here and a line in ``METHODS`` (docs/add_a_method.md). Imports no torch: the
dry run checks a network's shape with it.
"""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from pipeline_src.errors import ConfigError, did_you_mean
from pipeline_src.methods.common.config import SIZES, NetworkConfig
from pipeline_src.methods.common.method import Method, load_reference
from pipeline_src.methods.common.ratios import MaskRatios, num_kept

__all__ = [
    "METHODS",
    "MODEL_NAMES",
    "MaskRatios",
    "Method",
    "MethodName",
    "NetworkConfig",
    "find_method",
    "make_network_config",
    "num_kept",
    "split_name",
]

# Name -> where its record is; nothing is imported before it is asked for.
METHODS = {
    "avsiam": "pipeline_src.methods.avsiam:METHOD",
    "cav_mae": "pipeline_src.methods.cav_mae:METHOD",
    "cav_mae_sync": "pipeline_src.methods.cav_mae_sync:METHOD",
    "mavil": "pipeline_src.methods.mavil:METHOD",
    "diffmavil": "pipeline_src.methods.mavil:DIFFUSION",
}
MODEL_NAMES = tuple(f"{name}_{size}" for name in METHODS for size in SIZES)

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]


def find_method(name: str) -> Method:
    """Return the record of a method.

    Raises:
        ConfigError: there is no such method.
    """
    if name not in METHODS:
        raise ConfigError(
            f"method {name!r} is unknown{did_you_mean(name, METHODS)}; allowed: "
            f"{', '.join(METHODS)}"
        )
    return load_reference(METHODS[name])


def split_name(name: str) -> tuple[str, str]:
    """Split a model's name into its method and its size.

    Raises:
        ConfigError: there is no such model.
    """
    if name not in MODEL_NAMES:
        raise ConfigError(
            f"model {name!r} is unknown{did_you_mean(name, MODEL_NAMES)}; allowed: "
            f"{', '.join(MODEL_NAMES)}"
        )
    method, _, size = name.rpartition("_")
    return method, size


def make_network_config(name: str, *, variant: str = "", **values: Any) -> NetworkConfig:
    """Check the constructor arguments of a named network.

    Args:
        variant: empty = the first of the method's.
        values: fields of the method's config on top of those of the size and variant.

    Raises:
        ConfigError: an unknown name, variant or field, or values that do not fit together.
    """
    method, size = split_name(name)
    config = find_method(method).config
    variant = variant or next(iter(config.variants))
    if variant not in config.variants:
        raise ConfigError(f"variant {variant!r} is unknown; allowed: {', '.join(config.variants)}")
    allowed = sorted(set(config.model_fields) - {"num_classes"})
    unknown = sorted(set(values) - set(config.model_fields))
    if unknown:
        raise ConfigError(
            f"{name}: unknown override {', '.join(unknown)}{did_you_mean(unknown[0], allowed)}; "
            f"allowed: {', '.join(allowed)}, variant"
        )
    try:
        return config(**{**SIZES[size], **config.variants[variant].get(size, {}), **values})
    except ValidationError as error:
        problems = "; ".join(_describe(item) for item in error.errors())
        raise ConfigError(f"{name}: {problems}") from error


def _describe(item: Any) -> str:
    """Name one field pydantic refuses, with its value."""
    message = item["msg"].removeprefix("Value error, ")
    if not item["loc"]:
        return message
    return f"{'.'.join(map(str, item['loc']))}={item['input']!r}: {message}"
