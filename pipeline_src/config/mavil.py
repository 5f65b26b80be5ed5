"""Keys of the pre-training that MAViL and DiffMAViL alone read."""

from typing import Literal

from pydantic import Field, model_validator

from pipeline_src.config.section import Section


class MAViLRecipe(Section):
    """mavil, diffmavil: views, their contrast, and what decoders predict; others ignore it."""

    intra_weight: float = Field(
        default=0.01, ge=0, description="weight of the contrast between two views of a clip"
    )
    intra_temperature: float = Field(default=1.0, gt=0, description="of that contrast")
    second_view: Literal["encoders", "full"] = Field(
        default="encoders",
        description="what the second view passes: encoders only, or fusion and decoders as well",
    )
    mask_ratios: tuple[float, ...] = Field(
        default=(),
        description="mask ratios on equal shares of the clips instead of reconstruct_ratio, drawn "
        "apart for audio, video and either view, as a control; empty = reconstruct_ratio",
    )
    decode_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of the hidden tokens that a cross decoder predicts; joint ones predict "
        "all",
    )
    shared_step: bool = Field(
        default=False, description="diffusion: one step for audio and video of a clip"
    )

    @model_validator(mode="after")
    def _check_ratios(self) -> "MAViLRecipe":
        for ratio in self.mask_ratios:
            if not 0 < ratio < 1:
                raise ValueError(f"mask_ratios: {ratio} is not in (0, 1)")
        return self
