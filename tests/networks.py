"""Sizes of networks that a test builds in milliseconds."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from pipeline_src.methods import MaskRatios

WIDTHS = {
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "decoder_embed_dim": 8,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
}
# Of a step as published: AVSiam's, with CAV-MAE's in it, and MAViL's.
RATIOS = MaskRatios(0.75, 0.75, (0.0, 0.125, 0.25, 0.375, 0.5))
MAVIL_RATIOS = MaskRatios(0.8, 0.8)


def ratios_of(objective: Any) -> MaskRatios:
    """Ratios of its step; listed ones only where it contrasts in a pass of its own."""
    has_own_pass = objective.model.config.has_contrast_pass
    return RATIOS if has_own_pass else RATIOS._replace(listed=())


SMALL = {"img_size": 16, "patch_size": 8, "num_mel_bins": 16, "target_length": 24} | WIDTHS


def image_vit(depth: int) -> dict[str, Tensor]:
    """The state dict of an image ViT of ``SMALL``'s width and patches, every tensor random."""
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=depth, num_heads=2, num_classes=0
    )
    generator = torch.Generator().manual_seed(2)
    return {
        key: torch.randn(value.shape, generator=generator)
        for key, value in vit.state_dict().items()
    }
