"""Constructor arguments of CAV-MAE Sync (arXiv:2505.01237), its sizes and its variants.

The text of the paper was not at hand: values are read off the authors' code (docs/decisions.md).
"""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline_src.methods.cav_mae.config import CAVMAEConfig
from pipeline_src.methods.common.config import SIZES, Variants

Classifier = Literal["tokens", "pairs", "single", "frame"]
SCORED: dict[Classifier, tuple[str, ...]] = {
    "tokens": ("audio", "video", "audio_video"),
    "pairs": ("audio_video",),
    "single": ("audio", "video"),
    "frame": ("audio", "video"),
}


class CAVMAESyncConfig(CAVMAEConfig):
    """Constructor arguments of CAV-MAE Sync."""

    published_frames: ClassVar[int] = 16
    variants: ClassVar[Variants] = {
        "ours": {},
        "released": {size: {"register_std": 1.0, "classifier": "pairs"} for size in SIZES},
    }

    target_length: int = Field(416, ge=1, description="log-mel frames of a segment")
    num_registers: int = Field(
        8, ge=0, description="register tokens that a modality's sequences have in its own blocks"
    )
    register_std: float = Field(
        0.02, gt=0, description="spread of the registers' start values; released: 1"
    )
    clip_length: int = Field(
        1024,
        ge=0,
        description="log-mel frames that a clip is padded or cut to before target_length of them "
        "are shown, around the frames shown; 0 = no such segments",
    )
    contrast_features: Literal["class", "mean", "both"] = Field(
        "class",
        description="contrasted: class tokens, means of patch tokens, or each for itself",
    )
    classifier: Classifier = Field(
        "tokens",
        description="tokens = one aggregator over the contrasted tokens of every input that there "
        "is; released: pairs = over both inputs, single = over one of them, frame = a head for "
        "each frame of one of them",
    )
    num_segments: int = Field(
        16, ge=1, description="frames, with their segments, of a clip that is classified"
    )

    @property
    def num_class_tokens(self) -> int:
        """Class tokens of a sequence."""
        return 1

    @property
    def heads(self) -> tuple[str, ...]:
        """The inputs that the classifier can score."""
        return SCORED[self.classifier]

    @property
    def classified_groups(self) -> int:
        """Groups of num_frames frames that a fine-tuning shows of a clip at once."""
        return 1 if self.classifier == "frame" else self.num_segments
