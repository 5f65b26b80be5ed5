"""timm's resampling of positions and patch kernels.

timm is imported where it is called: its package brings every model that it has, torchvision and
torch's compiler, which a process that trains or reads clips has no use for.

Shape legend: L positions, D embed_dim.
"""

from collections.abc import Sequence

from torch import Tensor


def resample_positions(
    pos_embed_1LD: Tensor, grid: tuple[int, int], new_grid: tuple[int, int]
) -> Tensor:
    """Stretch the positions of a (rows, columns) grid over another one, bicubic: (1, L, D)."""
    from timm.layers import resample_abs_pos_embed

    return resample_abs_pos_embed(pos_embed_1LD, list(new_grid), list(grid), num_prefix_tokens=0)  # type: ignore[operator]


def resample_kernel(kernel: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Resample a patch embedding's kernel to (D, channels, patch height, patch width)."""
    from timm.layers import resample_patch_embed

    return resample_patch_embed(kernel, list(patch_size))
