"""The masking-ratio curriculum of a pre-training, as configured.

DiffMAViL (arXiv:2310.03937) has one; its shape and ends are not published in detail, so those here
are our choice, and every one is a key.
"""

import math
from typing import Literal

from pydantic import Field

from pipeline_src.config.section import Section

RATIO_DECIMALS = 12  # 0.9 + (0.8 - 0.9) is not 0.8 in floats, and one token could hang on it


class CurriculumConfig(Section):
    """Mask ratios as a function of the clips seen; off at ``shape: constant``."""

    shape: Literal["constant", "linear", "cosine", "step"] = Field(
        default="constant",
        description="constant = reconstruct_ratio and contrast_ratios throughout, the other keys "
        "here are not read; linear, half a cosine, or one step from start to end",
    )
    start: float = Field(default=0.9, gt=0, lt=1, description="mask ratio of the first epoch")
    end: float = Field(
        default=0.8, gt=0, lt=1, description="mask ratio of the last epoch; above or below start"
    )
    modalities: Literal["both", "audio", "video"] = Field(
        default="both", description="whose ratio is scheduled; the other keeps reconstruct_ratio"
    )
    contrast_ratios_end: tuple[float, ...] = Field(
        default=(),
        description="avsiam: what each of contrast_ratios, which hold at the start, becomes by the "
        "end, in the same shape; empty = they stay",
    )
    step_at: float = Field(
        default=0.5, gt=0, lt=1, description="step: share of the epochs before the step"
    )
    every_epochs: float = Field(
        default=1.0, gt=0, description="epochs between two changes of the ratio and the batch"
    )

    @property
    def is_on(self) -> bool:
        """Whether anything is scheduled."""
        return self.shape != "constant"

    def num_phases(self, epochs: float) -> int:
        """Count the spans of equal ratios in a training."""
        return math.ceil(round(epochs / self.every_epochs, 9)) if self.is_on else 1

    def ratio(self, start: float, end: float, phase: int, num_phases: int) -> float:
        """Return the scheduled value between ``start`` and ``end`` in a phase, 0-based.

        Linear is r_e = r_0 + (r_1 - r_0) e / (E - 1); ``start`` throughout where E = 1.
        """
        if self.shape == "step":
            return end if phase / num_phases >= self.step_at else start
        if self.shape == "constant" or num_phases == 1:
            return start
        progress = phase / (num_phases - 1)
        if self.shape == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return round(start + (end - start) * progress, RATIO_DECIMALS)
