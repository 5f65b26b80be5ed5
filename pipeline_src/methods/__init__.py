"""Constructor arguments of every method's network, checked; their sizes and variants.

Imports no torch: the dry run checks a network's shape with it.
"""

from typing import Any, NamedTuple

from pydantic import ValidationError

from pipeline_src.errors import ConfigError, did_you_mean
from pipeline_src.methods.avsiam import config as avsiam
from pipeline_src.methods.avsiam.config import AVSiamConfig
from pipeline_src.methods.cav_mae import config as cav_mae
from pipeline_src.methods.cav_mae.config import CAVMAEConfig
from pipeline_src.methods.common.config import SIZES, NetworkConfig
from pipeline_src.methods.common.ratios import MaskRatios, num_kept
from pipeline_src.methods.mavil import config as mavil
from pipeline_src.methods.mavil.config import DiffMAViLConfig, MAViLConfig

__all__ = [
    "METHODS",
    "MODEL_NAMES",
    "AVSiamConfig",
    "CAVMAEConfig",
    "DiffMAViLConfig",
    "MAViLConfig",
    "MaskRatios",
    "NetworkConfig",
    "make_architecture",
    "num_kept",
    "split_name",
]


class Method(NamedTuple):
    """A method's constructor arguments: their checks, and values by size and by variant, size."""

    config: type[NetworkConfig]
    sizes: dict[str, dict[str, Any]]
    variants: dict[str, dict[str, dict[str, Any]]]


METHODS = {
    "avsiam": Method(AVSiamConfig, SIZES, avsiam.VARIANTS),
    "cav_mae": Method(CAVMAEConfig, SIZES, cav_mae.VARIANTS),
    "mavil": Method(MAViLConfig, SIZES, mavil.VARIANTS),
    "diffmavil": Method(DiffMAViLConfig, SIZES, mavil.VARIANTS),
}
MODEL_NAMES = tuple(f"{name}_{size}" for name, method in METHODS.items() for size in method.sizes)


def split_name(name: str) -> tuple[str, str]:
    """Method and size of a model's name.

    Raises:
        ConfigError: there is no such model.
    """
    if name not in MODEL_NAMES:
        raise ConfigError(f"model {name!r} is unknown; allowed: {', '.join(MODEL_NAMES)}")
    method, _, size = name.rpartition("_")
    return method, size


def make_architecture(name: str, *, variant: str = "", **values: Any) -> NetworkConfig:
    """Check the constructor arguments of a named network.

    Args:
        variant: empty = the first of the method's.
        values: fields of the method's config on top of those of the size and variant.

    Raises:
        ConfigError: an unknown name, variant or field, or values that do not fit together.
    """
    method, size = split_name(name)
    config, sizes, variants = METHODS[method]
    variant = variant or next(iter(variants))
    if variant not in variants:
        raise ConfigError(f"variant {variant!r} is unknown; allowed: {', '.join(variants)}")
    allowed = sorted(set(config.model_fields) - {"num_classes"})
    unknown = sorted(set(values) - set(config.model_fields))
    if unknown:
        raise ConfigError(
            f"{name}: unknown override {', '.join(unknown)}{did_you_mean(unknown[0], allowed)}; "
            f"allowed: {', '.join(allowed)}, variant"
        )
    try:
        return config(**{**sizes[size], **variants[variant][size], **values})
    except ValidationError as error:
        problems = "; ".join(_describe(item) for item in error.errors())
        raise ConfigError(f"{name}: {problems}") from error


def _describe(item: Any) -> str:
    """Name one field pydantic refuses, with its value."""
    if not item["loc"]:
        return item["msg"]
    return f"{'.'.join(map(str, item['loc']))}={item['input']!r}: {item['msg']}"
