"""Constructor arguments of MAViL (arXiv:2212.08071) and of DiffMAViL (arXiv:2310.03937).

One family of networks: DiffMAViL is MAViL whose decoders see noised patches. Neither has public
pre-training code, so both are reconstructions; which value rests on what: docs/methods.md.
"""

from fractions import Fraction
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_src.errors import ConfigError
from pipeline_src.methods.common.config import NetworkConfig, Variants
from pipeline_src.methods.common.ratios import MaskRatios

DecoderKind = Literal["joint", "cross", "cross_self"]
SecondView = Literal["encoders", "full"]


class MAViLConfig(NetworkConfig):
    """Constructor arguments of MAViL."""

    variants: ClassVar[Variants] = {"reconstruction": {}}  # no code or table fixes one
    ratio_key: ClassVar[str] = "mavil.mask_ratios"
    encoder_keys: ClassVar[tuple[str, ...]] = (
        *NetworkConfig.encoder_keys,
        *("fusion_depth", "tubelet_size"),
    )
    teacher_keys: ClassVar[tuple[str, ...]] = (  # the inputs' tokens, and their width
        *("embed_dim", "num_mel_bins", "target_length", "img_size", "num_frames"),
        *("tubelet_size", "audio_patch", "patch_size"),
    )

    num_frames: int = Field(8, ge=1, description="frames that are one token sequence")
    tubelet_size: int = Field(
        2, ge=1, description="frames of a video patch; frames beyond a multiple of it are not seen"
    )
    fusion_depth: int = Field(2, ge=1, description="blocks over the tokens of both modalities")
    proj_dim: int = Field(256, ge=1, description="width of the contrasted features")
    norm_pix_loss: bool = Field(True, description="reconstruct patches normalised one by one")
    predicts: Literal["patches", "features"] = Field(
        "patches", description="decoder output; features = a teacher's fused tokens (stage 2)"
    )
    audio_decoder: DecoderKind = Field(
        "joint", description="blocks of the audio decoder: joint = self-attention over visible and "
        "hidden tokens; cross = hidden tokens read visible ones; cross_self = both in turn"
    )  # fmt: skip
    video_decoder: DecoderKind = Field("joint", description="blocks of the video decoder")
    context: Literal["own", "both"] = Field(
        "own", description="fused tokens that a cross decoder reads: of its modality, or of both"
    )
    diffusion: bool = Field(
        False, description="decoders see noised patches at hidden places instead of a mask token"
    )
    noise_steps: int = Field(1000, ge=1, description="diffusion: steps T from patch to noise")
    noise_exponent: float = Field(
        0.8, ge=0, description="diffusion: power rho of the linear betas; 0 = noise at every step"
    )
    noise_init: float = Field(
        0.0, ge=0, description="diffusion: standard deviation of the weights that embed noised "
        "patches and steps, at the start; at 0 hidden places start as mask tokens"
    )  # fmt: skip

    @model_validator(mode="after")
    def _check_decoders(self) -> "MAViLConfig":
        if self.num_frames < self.tubelet_size:
            raise ValueError(
                f"num_frames={self.num_frames} is less than one tubelet of "
                f"tubelet_size={self.tubelet_size} frames"
            )
        if self.context == "both" and not self.reads_across:
            raise ValueError("context=both needs a cross or cross_self decoder; both are joint")
        if self.diffusion and self.predicts == "features":
            raise ValueError("predicts=features has no patches to noise: set diffusion=false")
        return self

    @property
    def extra_tokens(self) -> int:
        """Tokens of an encoder's sequence beside its patches: class token and registers."""
        return 1 + self.num_registers

    @property
    def follows_teacher(self) -> bool:
        """Whether the decoders predict a teacher's tokens instead of patches."""
        return self.predicts == "features"

    def check_recipe(self, recipe: Any) -> None:
        """Refuse a partial decoding where both decoders predict all.

        Raises:
            ConfigError: names the key and its value.
        """
        fraction = recipe.mavil.decode_fraction
        if fraction < 1 and not self.reads_across:
            raise ConfigError(
                f"pretrain.mavil.decode_fraction={fraction} would change nothing: both decoders "
                "are joint; set model.overrides.video_decoder: cross"
            )

    def step_macs(self, ratios: MaskRatios, recipe: Any) -> Fraction:
        """Count a step with its backward passes and, in stage 2, the teacher's forward pass."""
        from pipeline_src.methods.mavil.cost import planned_steps, trained_flops  # it imports this

        return Fraction(trained_flops(self, planned_steps(self, ratios, recipe)))

    @property
    def reads_across(self) -> bool:
        """Whether a decoder's hidden tokens read visible ones by cross-attention."""
        return not self.audio_decoder == self.video_decoder == "joint"

    @property
    def time_major(self) -> bool:
        """Audio tokens and the values of a patch are ordered by time, then frequency."""
        return True

    @property
    def video_patch(self) -> tuple[int, int, int]:
        """Frames, rows and columns of one video patch."""
        return self.tubelet_size, self.patch_size, self.patch_size

    @property
    def patch_dims(self) -> tuple[int, int]:
        """Values of an audio and of a video patch."""
        return self.audio_patch_dim, self.video_patch_dim


class DiffMAViLConfig(MAViLConfig):
    """MAViL's network with the defaults of the DiffMAViL reconstruction."""

    video_decoder: DecoderKind = Field("cross", description="blocks of the video decoder")
    diffusion: bool = Field(
        True, description="decoders see noised patches at hidden places instead of a mask token"
    )


def num_views(
    second_view: SecondView, intra_weight: float, reconstruct_weight: float
) -> tuple[int, int]:
    """Count the views of a clip that pass the encoders, and of them those that are decoded."""
    is_full = second_view == "full"
    num_encoded = 2 if is_full or intra_weight > 0 else 1
    return num_encoded, 0 if reconstruct_weight == 0 else 2 if is_full else 1
