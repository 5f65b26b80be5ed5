"""Constructor arguments of AVSiam (arXiv:2403.19638), its sizes and its variants.

The sources of the variants' values, and how sure they are, stand in docs/decisions.md.
"""

from fractions import Fraction
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_src.methods.common.config import SIZES, NetworkConfig, Variants
from pipeline_src.methods.common.ratios import MaskRatios, mean, num_kept

NUM_FUSION_LAYERS = 2
# What the released base code does differently; the larger sizes are known from bytecode only.
_RELEASED_BASE = {
    "double_input": True,
    "audio_vit": "separate",
    "fusion_init": "last",
    "decoder_depth": 8,
    "decoder_pos_init": "zeros",
}
_RELEASED_LARGE = {"double_input": True, "decoder_depth": 6, "decoder_pos_init": "zeros"}


class AVSiamConfig(NetworkConfig):
    """Constructor arguments of AVSiam."""

    variants: ClassVar[Variants] = {
        "paper": {},
        "released": {
            size: _RELEASED_LARGE if size in ("large", "huge") else _RELEASED_BASE for size in SIZES
        },
    }
    has_contrast_pass: ClassVar[bool] = True
    ratio_key: ClassVar[str] = "contrast_ratios"
    encoder_keys: ClassVar[tuple[str, ...]] = (
        *NetworkConfig.encoder_keys,
        *("double_input", "encoders"),
    )

    double_input: bool = Field(False, description="x0 = 2 t, as the released weights need")
    encoders: Literal["shared", "separate"] = Field(
        "shared",
        description="blocks of audio and video; separate = a stack each, the paper's ablation",
    )
    audio_vit: Literal["shared", "separate"] = Field(
        "shared",
        description="encoder of audio in the reconstruction pass; separate = a second ViT",
    )
    fusion_init: Literal["last_two", "last"] = Field(
        "last_two", description="blocks that the two fusion layers start as copies of"
    )
    decoder_depth: int = Field(6, ge=1, description="decoder blocks")
    decoder_pos_init: Literal["sincos", "zeros"] = Field(
        "sincos", description="start of the trainable decoder positions"
    )

    @model_validator(mode="after")
    def _check_encoders(self) -> "AVSiamConfig":
        if self.encoders == self.audio_vit == "separate":
            raise ValueError(
                "encoders=separate already gives audio blocks of its own: audio_vit must be shared"
            )
        return self

    def forward_macs(self, ratios: MaskRatios) -> Fraction:
        """Count the contrastive pass, if there is one, and the pass that reconstructs."""
        kept = self.kept_tokens(ratios)
        reconstruct = (
            self.embedding_macs()
            + self._encoder_macs(*kept)
            + NUM_FUSION_LAYERS * self.encoder_block_macs(sum(kept))
            + self.decoder_macs(sum(kept))
        )
        sizes = (self.num_audio_tokens, self.num_video_tokens)
        contrast = [
            self.embedding_macs() + self._encoder_macs(*(num_kept(size, ratio) for size in sizes))
            for ratio in ratios.listed
        ]
        return reconstruct + mean(contrast)

    def _encoder_macs(self, num_audio: int, num_video: int) -> int:
        sequences = (num_audio + self.num_registers, num_video + self.num_registers)
        return self.depth * sum(map(self.encoder_block_macs, sequences))
