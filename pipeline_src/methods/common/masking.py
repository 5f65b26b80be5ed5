"""Random masks, drawn outside the model from an explicit generator.

AVSiam (arXiv:2403.19638): unstructured masks for video, structured ones for audio, several ratios
per batch. Deviation: marked tokens that must be kept after all are taken in the order of their own
noise, so the result is seeded; the released code leaves it to argsort's tie order.

Shape legend: B clips, L tokens, K kept tokens; an audio grid is (rows = frequency, columns = time).
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pipeline_src.methods.common.ratios import num_kept

AudioMask = Literal["unstructured", "time", "freq", "time_freq"]

# With both axes marked, each takes this share of the ratio (CAV-MAE, arXiv:2210.07839).
TIME_FREQ_SHARE = 0.7


class Mask(NamedTuple):
    """Which tokens a model sees. Fields: (B, K) int64, (B, L) int64, (B, L) bool."""

    ids_keep: Tensor
    ids_restore: Tensor
    is_masked_BL: Tensor  # True = hidden

    @property
    def num_hidden(self) -> int:
        """Hidden tokens of each clip, known without asking the device."""
        return self.ids_restore.shape[1] - self.ids_keep.shape[1]

    def ids_hidden(self) -> Tensor:
        """List the hidden tokens in ascending order: (B, L - K)."""
        ids_shuffle = self.ids_restore.argsort(dim=1)
        return ids_shuffle[:, self.ids_keep.shape[1] :].sort(dim=1).values

    def to(self, device: torch.device) -> "Mask":
        """Move the mask to a device."""
        return Mask(*(tensor.to(device) for tensor in self))


class MaskedChunk(NamedTuple):
    """Clips of a batch that share one mask ratio: their indices (Bk,) and kept tokens (Bk, K)."""

    clip_ids: Tensor
    ids_keep: Tensor

    def to(self, device: torch.device) -> "MaskedChunk":
        """Move the chunk to a device."""
        return MaskedChunk(*(tensor.to(device) for tensor in self))


def draw_noise(num_clips: int, num_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw U[0, 1) noise (B, L) on the generator's device."""
    return torch.rand(num_clips, num_tokens, generator=generator, device=generator.device)


def mask_from_noise(noise_BL: Tensor, mask_ratio: float) -> Mask:
    """Keep the tokens with the smallest noise; kept tokens stay in that (shuffled) order."""
    ids_shuffle = torch.argsort(noise_BL, dim=1, stable=True)
    kept = num_kept(noise_BL.shape[1], mask_ratio)
    return mask_from_restore(torch.argsort(ids_shuffle, dim=1, stable=True), kept)


def mask_from_restore(ids_restore_BL: Tensor, num_keep: int) -> Mask:
    """Rebuild a mask from a recorded order (B, L): the place of each token after the shuffle."""
    ids_keep = torch.argsort(ids_restore_BL, dim=1)[:, :num_keep]
    return Mask(ids_keep, ids_restore_BL, ids_restore_BL >= num_keep)


def structured_noise(
    num_clips: int,
    grid_size: tuple[int, int],
    mask_ratio: float,
    *,
    structure: AudioMask,
    generator: torch.Generator,
) -> Tensor:
    """Draw noise whose marked rows or columns sort behind all other tokens.

    ``time`` marks int(columns * ratio) columns, ``freq`` int(rows * ratio) rows, ``time_freq`` both
    at 0.7 of the ratio, ``unstructured`` none.

    Returns:
        (B, L) noise in [0, 2), row-major; marked tokens lie in [1, 2).
    """
    rows, columns = grid_size
    noise = draw_noise(num_clips, rows * columns, generator).view(num_clips, rows, columns)
    share = TIME_FREQ_SHARE if structure == "time_freq" else 1.0
    marked: dict[str, Tensor | None] = {"columns": None, "rows": None}
    if "time" in structure:
        num_columns = int(columns * mask_ratio * share)
        marked["columns"] = _choose(num_clips, columns, num_columns, generator)
    if "freq" in structure:
        num_rows = int(rows * mask_ratio * share)
        marked["rows"] = _choose(num_clips, rows, num_rows, generator)
    return mark_noise(noise, **marked)


def mark_noise(noise_BRC: Tensor, *, columns: Tensor | None, rows: Tensor | None) -> Tensor:
    """Add 1 to the noise of marked columns (B, C) and rows (B, R) of True: (B, L), row-major."""
    is_marked = torch.zeros_like(noise_BRC, dtype=torch.bool)
    if columns is not None:
        is_marked |= columns[:, None, :]
    if rows is not None:
        is_marked |= rows[:, :, None]
    return (noise_BRC + is_marked).flatten(1)


def _choose(num_clips: int, num_items: int, num_chosen: int, generator: torch.Generator) -> Tensor:
    """Choose ``num_chosen`` items per clip: (B, items) bool."""
    rank = draw_noise(num_clips, num_items, generator).argsort(dim=1).argsort(dim=1)
    return rank < num_chosen


def split_batch(num_clips: int, num_chunks: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Split a random order of the clips into chunks (clips,) as ``numpy.array_split`` does.

    Surplus clips go to the first chunks; with fewer clips than chunks the last ones are empty.
    """
    order = torch.randperm(num_clips, generator=generator, device=generator.device)
    return torch.tensor_split(order, num_chunks)


def gather_tokens(x_BLD: Tensor, ids_keep_BK: Tensor) -> Tensor:
    """Pick tokens by index: (B, K, D)."""
    return x_BLD.gather(1, ids_keep_BK.unsqueeze(-1).expand(-1, -1, x_BLD.shape[-1]))
