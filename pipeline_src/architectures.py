"""Constructor arguments of AVSiam, checked; and its published sizes and variants.

Imports no torch: the dry run checks a network's shape with it.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline_src.errors import ConfigError


class AVSiamConfig(BaseModel):
    """Everything the network is made of; each field is an override of ``create_model``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    num_classes: int = Field(0, ge=0, description="0: decoder for pre-training; else heads instead")
    num_mel_bins: int = Field(128, ge=1, description="mel bins of the log-mel")
    target_length: int = Field(1024, ge=1, description="frames of the log-mel")
    img_size: int = Field(224, ge=1, description="side of the square frame in pixels")
    num_frames: int = Field(
        1, ge=1, description="frames that are one token sequence; 1 = published"
    )
    patch_size: int = Field(16, ge=1, description="side of a video patch in pixels")
    audio_patch_size: tuple[int, int] | None = Field(
        None, description="(mel bins, frames) of an audio patch; empty = patch_size squared"
    )
    embed_dim: int = Field(768, ge=4, multiple_of=4, description="token width")
    depth: int = Field(12, ge=2, description="shared blocks")
    num_heads: int = Field(12, ge=1, description="attention heads of the shared and fusion blocks")
    mlp_ratio: float = Field(4.0, gt=0, description="MLP hidden width / token width")
    double_input: bool = Field(False, description="x0 = 2 t, as the released weights need")
    fusion_init: Literal["last_two", "last"] = Field(
        "last_two", description="blocks that the two fusion layers start as copies of"
    )
    decoder_embed_dim: int = Field(512, ge=4, multiple_of=4, description="decoder token width")
    decoder_depth: int = Field(6, ge=1, description="decoder blocks")
    decoder_num_heads: int = Field(16, ge=1, description="attention heads of the decoder")
    decoder_pos_init: Literal["sincos", "zeros"] = Field(
        "sincos", description="start of the trainable decoder positions"
    )
    norm_pix_loss: bool = Field(False, description="reconstruct patches normalised one by one")

    @model_validator(mode="after")
    def _check_sizes(self) -> "AVSiamConfig":
        pairs = (
            ("embed_dim", self.embed_dim, "num_heads", self.num_heads),
            (
                "decoder_embed_dim",
                self.decoder_embed_dim,
                "decoder_num_heads",
                self.decoder_num_heads,
            ),
            ("img_size", self.img_size, "patch_size", self.patch_size),
        )
        for whole, whole_value, part, part_value in pairs:
            if whole_value % part_value:
                raise ValueError(f"{whole}={whole_value} is not a multiple of {part}={part_value}")
        patch = self.audio_patch
        if not (0 < patch[0] <= self.num_mel_bins and 0 < patch[1] <= self.target_length):
            raise ValueError(
                f"an audio patch of {patch} (mel bins, frames) does not fit a log-mel of "
                f"num_mel_bins={self.num_mel_bins}, target_length={self.target_length}"
            )
        return self

    @property
    def audio_patch(self) -> tuple[int, int]:
        """Mel bins and frames of one audio patch."""
        return self.audio_patch_size or (self.patch_size, self.patch_size)


# Tiny is ours, for two CPU cores; small to huge are timm's ViTs, base to huge as published.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "embed_dim": 128,
        "depth": 4,
        "num_heads": 4,
        "decoder_embed_dim": 96,
        "decoder_depth": 2,
        "decoder_num_heads": 4,
    },
    "small": {"embed_dim": 384, "num_heads": 6, "decoder_embed_dim": 256, "decoder_num_heads": 8},
    "base": {},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
    "huge": {"embed_dim": 1280, "depth": 32, "num_heads": 16, "patch_size": 14},
}

# What the released base code does differently. Its reconstruction pass also sends audio through a
# second, unshared ViT, which is not built here: the published checkpoints hold no such weights.
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {
        "double_input": True,
        "fusion_init": "last",
        "decoder_depth": 8,
        "decoder_pos_init": "zeros",
    },
}

METHOD = "avsiam"
MODEL_NAMES = tuple(f"{METHOD}_{size}" for size in SIZES)


def make_architecture(name: str, *, variant: str = "paper", **values: Any) -> AVSiamConfig:
    """Check the constructor arguments of a named network.

    Args:
        values: fields of ``AVSiamConfig`` on top of those of the size and variant.

    Raises:
        ConfigError: an unknown name, variant or field, or values that do not fit together.
    """
    if name not in MODEL_NAMES:
        raise ConfigError(f"model {name!r} is unknown; allowed: {', '.join(MODEL_NAMES)}")
    if variant not in VARIANTS:
        raise ConfigError(f"variant {variant!r} is unknown; allowed: {', '.join(VARIANTS)}")
    allowed = sorted(set(AVSiamConfig.model_fields) - {"num_classes"})
    unknown = sorted(set(values) - set(AVSiamConfig.model_fields))
    if unknown:
        raise ConfigError(
            f"{name}: unknown override {', '.join(unknown)}; allowed: {', '.join(allowed)}, variant"
        )
    size = SIZES[name.removeprefix(f"{METHOD}_")]
    try:
        return AVSiamConfig(**{**size, **VARIANTS[variant], **values})
    except ValidationError as error:
        problems = "; ".join(_describe(item) for item in error.errors())
        raise ConfigError(f"{name}: {problems}") from error


def _describe(item: Any) -> str:
    """Name one field pydantic refuses, with its value."""
    if not item["loc"]:
        return item["msg"]
    return f"{'.'.join(map(str, item['loc']))}={item['input']!r}: {item['msg']}"
