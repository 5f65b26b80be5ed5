"""Position tables: 2-D and 3-D sin-cos values, and image positions stretched over audio tokens.

Shape legend: L positions, D embed_dim.
"""

from typing import Literal

import torch
from torch import Tensor

from pipeline_src.errors import CheckpointError
from pipeline_src.methods.common.resample import resample_positions

SINCOS_BASE = 10000.0


def sincos_2d(grid_size: tuple[int, int], dim: int) -> Tensor:
    """Make the sin-cos table of a (rows, columns) grid (MAE, arXiv:2111.06377).

    Half of the channels encode the column, half the row; row-major like the tokens.

    Returns:
        (1, L, D), L = rows * columns.

    Raises:
        ValueError: ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"a 2-D sin-cos table needs a width divisible by 4, got {dim}")
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in grid_size)
    row_L, column_L = (axis.flatten() for axis in torch.meshgrid(rows, columns, indexing="ij"))
    table_LD = torch.cat([_sincos_1d(column_L, dim // 2), _sincos_1d(row_L, dim // 2)], dim=1)
    return table_LD.float()[None]


def sincos_3d(grid_size: tuple[int, int, int], dim: int) -> Tensor:
    """Make the sin-cos table of a (time, rows, columns) grid, in that order.

    About a quarter of the channels, a multiple of 4, encode time, the others a 2-D table (our
    split: MAViL's is not known).

    Returns:
        (1, L, D), L = time * rows * columns.
    """
    num_times, rows, columns = grid_size
    plane_dim = 4 * (3 * dim // 16)
    plane_LD = sincos_2d((rows, columns), plane_dim)[0].repeat(num_times, 1)
    time_L = torch.arange(num_times, dtype=torch.float64).repeat_interleave(rows * columns)
    return torch.cat([plane_LD, _sincos_1d(time_L, dim - plane_dim).float()], dim=1)[None]


def sinusoids(value_B: Tensor, dim: int) -> Tensor:
    """Encode a number per clip, e.g. a diffusion step, as sines and cosines: (B, D)."""
    return _sincos_1d(value_B.double(), dim).float()


def _sincos_1d(position_L: Tensor, dim: int) -> Tensor:
    """Make sines, then cosines, of positions at ``dim // 2`` frequencies: (L, D)."""
    frequency = SINCOS_BASE ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    frequency = frequency.to(position_L.device)
    angle = position_L[:, None] * frequency[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def stretch_positions(pos_embed_1LD: Tensor, num_positions: int) -> Tensor:
    """Stretch a position list to another length by nearest neighbour (AVSiam's audio positions).

    The image grid is read as a 1-D list: position i takes entry floor(i * L / num_positions).

    Returns:
        (1, num_positions, D).
    """
    num_source = pos_embed_1LD.shape[1]
    index = torch.arange(num_positions, device=pos_embed_1LD.device) * num_source // num_positions
    return pos_embed_1LD[:, index]


def resize_positions(
    pos_embed_1LD: Tensor,
    grid: tuple[int, int],
    new_grid: tuple[int, int],
    how: Literal["interpolate", "trim"],
) -> Tensor:
    """Fit the positions of a (rows, columns) grid to another one: (1, L, D), row-major.

    Args:
        how: interpolate = bicubic over the grid; trim = its first rows and columns.

    Raises:
        CheckpointError: trim would have to lengthen.
    """
    if how == "interpolate":
        return resample_positions(pos_embed_1LD, grid, new_grid)
    if new_grid[0] > grid[0] or new_grid[1] > grid[1]:
        raise CheckpointError(
            f"model.fit_positions: trim cannot lengthen positions of {grid} tokens (rows, columns) "
            f"to {new_grid}; set it to interpolate"
        )
    rows, columns = new_grid
    return pos_embed_1LD.unflatten(1, grid)[:, :rows, :columns].flatten(1, 2)
