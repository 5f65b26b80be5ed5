"""What the networks of all methods share: inputs, patches, decoder."""

import math
from fractions import Fraction
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_src.errors import ConfigError
from pipeline_src.methods.common.ratios import MaskRatios, block_macs, mean, num_kept
from pipeline_src.methods.common.settings import Settings
from pipeline_src.modalities import HEADS

Variants = dict[str, dict[str, dict[str, Any]]]


def multiples_near(size: int, unit: int) -> str:
    """Name the multiples of ``unit`` that are next to ``size``."""
    below = size // unit * unit
    return f"{below} or {below + unit}" if below else str(unit)


class NetworkConfig(Settings):
    """Constructor arguments that every method has; each is an override of ``create_model``.

    ``variants``: variant -> size -> values that differ from the defaults and the size's; the first
    is the default. ``has_contrast_pass``: the method contrasts in a pass of its own, under
    contrast_ratios. ``ratio_key``: key of a pre-training's recipe whose mask ratios each hold for
    an equal share of the clips. ``encoder_keys``, ``decoder_keys``: what decides the tensors that a
    start brings, or what they compute; ``teacher_keys``: what a finished network must share with
    one whose second stage follows it, none = no second stage.
    ``published_frames``: stored per clip for released weights.
    """

    variants: ClassVar[Variants] = {"default": {}}
    has_contrast_pass: ClassVar[bool] = False
    ratio_key: ClassVar[str] = ""
    published_frames: ClassVar[int] = 10
    encoder_keys: ClassVar[tuple[str, ...]] = (
        *("embed_dim", "depth", "num_heads", "mlp_ratio", "num_mel_bins", "patch_size"),
        *("audio_patch", "num_registers"),
    )
    decoder_keys: ClassVar[tuple[str, ...]] = (
        *("decoder_embed_dim", "decoder_depth", "decoder_num_heads"),
    )
    teacher_keys: ClassVar[tuple[str, ...]] = ()

    num_classes: int = Field(0, ge=0, description="0: decoder for pre-training; else heads instead")
    num_mel_bins: int = Field(128, ge=1, description="mel bins of the log-mel")
    target_length: int = Field(1024, ge=1, description="frames of the log-mel")
    clip_length: int = Field(
        0,
        ge=0,
        description="log-mel frames that a clip is padded or cut to before target_length of them "
        "are shown, around the frames shown; 0 = no such segments",
    )
    segment_centre: Literal["start", "middle", "seconds"] = Field(
        "start",
        description="the frame's place in the log-mel: start or middle of its equal share of the "
        "clip_length, or its moment in seconds",
    )
    img_size: int = Field(224, ge=1, description="side of the square frame in pixels")
    num_frames: int = Field(
        1, ge=1, description="frames that are one token sequence; 1 = published"
    )
    patch_size: int = Field(16, ge=1, description="side of a video patch in pixels")
    audio_patch_size: tuple[int, int] | None = Field(
        None, description="(mel bins, frames) of an audio patch; empty = patch_size squared"
    )
    embed_dim: int = Field(768, ge=4, multiple_of=4, description="token width")
    depth: int = Field(12, ge=2, description="encoder blocks that a token passes")
    num_heads: int = Field(12, ge=1, description="attention heads of the encoder")
    num_registers: int = Field(
        0, ge=0, description="register tokens that a modality's sequences have in its own blocks"
    )
    mlp_ratio: float = Field(4.0, gt=0, description="MLP hidden width / token width")
    decoder_embed_dim: int = Field(512, ge=4, multiple_of=4, description="decoder token width")
    decoder_depth: int = Field(8, ge=1, description="decoder blocks")
    decoder_num_heads: int = Field(16, ge=1, description="attention heads of the decoder")
    norm_pix_loss: bool = Field(False, description="reconstruct patches normalised one by one")

    @model_validator(mode="after")
    def _check_sizes(self) -> "NetworkConfig":
        pairs = (
            ("embed_dim", "num_heads"),
            ("decoder_embed_dim", "decoder_num_heads"),
            ("img_size", "patch_size"),
        )
        for whole, part in pairs:
            size, unit = getattr(self, whole), getattr(self, part)
            if size % unit:
                raise ValueError(
                    f"{whole}={size} is not a multiple of {part}={unit}; set {whole} to "
                    f"{multiples_near(size, unit)}"
                )
        patch = self.audio_patch
        if not (0 < patch[0] <= self.num_mel_bins and 0 < patch[1] <= self.target_length):
            raise ValueError(
                f"an audio patch of {patch} (mel bins, frames) does not fit a log-mel of "
                f"num_mel_bins={self.num_mel_bins}, target_length={self.target_length}"
            )
        if 0 < self.clip_length < self.target_length:
            raise ValueError(
                f"target_length={self.target_length} is a segment of a clip, so it must not be "
                f"above clip_length={self.clip_length}"
            )
        return self

    @property
    def heads(self) -> tuple[str, ...]:
        """The inputs that a classifier of this network can score."""
        return HEADS

    @property
    def classified_groups(self) -> int:
        """Groups of num_frames frames that a fine-tuning shows of a clip at once."""
        return 1

    @property
    def audio_patch(self) -> tuple[int, int]:
        """Mel bins and frames of one audio patch."""
        return self.audio_patch_size or (self.patch_size, self.patch_size)

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Rows (frequency) and columns (time) of audio tokens."""
        return (
            self.num_mel_bins // self.audio_patch[0],
            self.target_length // self.audio_patch[1],
        )

    @property
    def video_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of one frame."""
        side = self.img_size // self.patch_size
        return side, side

    @property
    def time_major(self) -> bool:
        """Whether audio tokens are ordered by time, then frequency; else the other way round."""
        return False

    @property
    def audio_token_grid(self) -> tuple[int, int]:
        """Rows and columns of audio tokens in their order."""
        rows, columns = self.audio_grid
        return (columns, rows) if self.time_major else (rows, columns)

    @property
    def audio_token_patch(self) -> tuple[int, int]:
        """Rows and columns of an audio patch in the order of the tokens."""
        rows, columns = self.audio_patch
        return (columns, rows) if self.time_major else (rows, columns)

    @property
    def video_patch(self) -> tuple[int, int, int]:
        """Frames, rows and columns of one video patch."""
        return 1, self.patch_size, self.patch_size

    @property
    def audio_patch_dim(self) -> int:
        """Values of an audio patch."""
        return math.prod(self.audio_patch)

    @property
    def video_patch_dim(self) -> int:
        """Values of a video patch, three colours each."""
        return 3 * math.prod(self.video_patch)

    @property
    def num_audio_tokens(self) -> int:
        """La."""
        return self.audio_grid[0] * self.audio_grid[1]

    @property
    def num_video_tokens(self) -> int:
        """Lv: tokens of num_frames frames."""
        return self.num_frames // self.video_patch[0] * self.video_grid[0] * self.video_grid[1]

    def kept_tokens(self, ratios: MaskRatios) -> tuple[int, int]:
        """Count audio and video tokens that the pass that reconstructs sees of one clip."""
        return (
            num_kept(self.num_audio_tokens, ratios.audio),
            num_kept(self.num_video_tokens, ratios.video),
        )

    def visible_tokens(self, ratios: MaskRatios) -> Fraction:
        """Count tokens of a clip that the encoder sees in a training step, all passes together."""
        sizes = (self.num_audio_tokens, self.num_video_tokens)
        listed = mean([sum(num_kept(size, ratio) for size in sizes) for ratio in ratios.listed])
        stands_for_the_others = ratios.listed and not self.has_contrast_pass
        return listed if stands_for_the_others else listed + sum(self.kept_tokens(ratios))

    def forward_macs(self, ratios: MaskRatios) -> Fraction:
        """Count multiply-accumulates of one clip in a training step, the forward passes together.

        Counted are matrix products; a step with its backward passes costs three times as much.

        Raises:
            ConfigError: nobody has written the count of this method down.
        """
        raise ConfigError(
            f"{type(self).__name__} has no count of operations: set adaptive_batch: tokens"
        )

    @property
    def follows_teacher(self) -> bool:
        """Whether pre-training predicts a teacher's tokens instead of patches."""
        return False

    def check_recipe(self, recipe: Any) -> None:
        """Refuse keys of a pre-training's recipe that would change nothing in this network.

        Raises:
            ConfigError: names the key and its value.
        """

    # train/measure.py counts the real network, and its figures are recorded. Closed forms stay for
    # the dry run, which plans batches of equal operations without torch; tests compare the two.
    def step_macs(self, ratios: MaskRatios, recipe: Any) -> Fraction:
        """Count what a clip costs in a step of ``recipe``, up to a factor of the method's own.

        Raises:
            ConfigError: nobody has written the count of this method down.
        """
        del recipe
        return self.forward_macs(ratios)

    def encoder_block_macs(self, num_tokens: int) -> int:
        """Count multiply-accumulates of one encoder block over one clip's sequence."""
        return block_macs(num_tokens, self.embed_dim, self.mlp_ratio)

    def embedding_macs(self) -> int:
        """Count multiply-accumulates of the patch embeddings of all tokens of one clip."""
        return self.embed_dim * self._num_inputs()

    def decoder_macs(self, num_kept_tokens: int) -> int:
        """Count multiply-accumulates of a decoder over all tokens that is given the kept ones."""
        dim = self.decoder_embed_dim
        num_tokens = self.num_audio_tokens + self.num_video_tokens
        blocks = self.decoder_depth * block_macs(num_tokens, dim, self.mlp_ratio)
        return num_kept_tokens * self.embed_dim * dim + blocks + dim * self._num_inputs()

    def _num_inputs(self) -> int:
        """Count log-mel bins and pixel values that the tokens of one clip hold."""
        audio = self.num_audio_tokens * self.audio_patch_dim
        return audio + self.num_video_tokens * self.video_patch_dim


# Tiny is ours, for two CPU cores; small to huge are timm's ViTs. AVSiam is published at base to
# huge, CAV-MAE at base.
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
