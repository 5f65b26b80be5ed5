"""Constructor arguments of CAV-MAE (arXiv:2210.07839) and its sizes.

The scale+ and scale++ models are the base network under other recipes.
"""

from fractions import Fraction
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_src.methods.common.config import NetworkConfig, Variants
from pipeline_src.methods.common.ratios import MaskRatios


class CAVMAEConfig(NetworkConfig):
    """Constructor arguments of CAV-MAE."""

    # Both compute the same network; they differ in the contrast's scope, a recipe's key.
    variants: ClassVar[Variants] = {"paper": {}, "released": {}}
    encoder_keys: ClassVar[tuple[str, ...]] = (
        *NetworkConfig.encoder_keys,
        *("shared_depth", "num_class_tokens"),
    )

    shared_depth: int = Field(
        1, ge=1, description="last blocks, which both modalities share; the others are separate"
    )
    norm_pix_loss: bool = Field(True, description="reconstruct patches normalised one by one")
    single_modality: Literal["own", "averaged"] = Field(
        "own",
        description="score of audio or video alone: own = with the modality's norms; averaged = "
        "mean with the joint norms, for a model that was fine-tuned on both together",
    )

    @model_validator(mode="after")
    def _check_depths(self) -> "CAVMAEConfig":
        if self.shared_depth >= self.depth:
            raise ValueError(
                f"shared_depth={self.shared_depth} leaves no block of its own to a modality: it "
                f"must be below depth={self.depth}"
            )
        return self

    @property
    def modality_specific_depth(self) -> int:
        """Blocks of each modality before the shared ones."""
        return self.depth - self.shared_depth

    @property
    def num_class_tokens(self) -> int:
        """Class tokens of a sequence."""
        return 0

    @property
    def extra_tokens(self) -> int:
        """Tokens beside the patches in a modality's own blocks."""
        return self.num_class_tokens + self.num_registers

    def _pair_macs(self, audio: int, video: int, extra: int) -> int:
        """Count a block over each modality's sequence, each longer by ``extra`` tokens."""
        return self.encoder_block_macs(audio + extra) + self.encoder_block_macs(video + extra)

    def forward_macs(self, ratios: MaskRatios) -> Fraction:
        """Count the one pass: shared blocks run on audio, on video and on both."""
        audio, video = self.kept_tokens(ratios)
        return Fraction(
            self.embedding_macs()
            + self.modality_specific_depth * self._pair_macs(audio, video, self.extra_tokens)
            + self.shared_depth * self._pair_macs(audio, video, self.num_class_tokens)
            + self.shared_depth * self.encoder_block_macs(audio + video)
            + self.decoder_macs(audio + video)
        )
