"""Token sequences of different lengths laid end to end, so that layers see one long batch.

No token attends outside its own sequence. Matrix products, the shared weights' gradients among
them, run once over all tokens; attention runs per sequence: one variable-length kernel on a GPU in
half precision, elsewhere one dense batch per run of equal lengths. Nothing is padded.

Shape legend: T tokens of all sequences, H heads, E head width; a group is n sequences of L tokens.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from pipeline_src.modalities import Modality

HALF_TYPES = (torch.float16, torch.bfloat16)  # what variable-length kernels take


@dataclass(frozen=True)
class Packing:
    """Where each sequence lies: all audio groups, then all video groups.

    Args:
        audio, video: (number of sequences, tokens of each) per group; one of them may be empty.
        device: where the tokens are.
    """

    audio: tuple[tuple[int, int], ...]
    video: tuple[tuple[int, int], ...]
    device: torch.device

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """Every group in the order of the tokens."""
        return self.audio + self.video

    @property
    def modality_sizes(self) -> list[int]:
        """Tokens of audio and of video."""
        return [sum(n * length for n, length in part) for part in (self.audio, self.video)]

    @property
    def only_modality(self) -> Modality | None:
        """The one modality that is packed, or None where both are."""
        return None if self.audio and self.video else "audio" if self.audio else "video"

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence."""
        return max(length for _, length in self.groups)

    @property
    def boundaries(self) -> Tensor:
        """Start of every sequence and the end of the last: (number of sequences + 1,) int32."""
        return _boundaries(self.groups, self.device)

    def split(self, x: Tensor) -> list[Tensor]:
        """View packed tokens (T, ...) as one dense batch (n, L, ...) per group."""
        parts = x.split([n * length for n, length in self.groups])
        return [part.unflatten(0, group) for part, group in zip(parts, self.groups, strict=True)]


@lru_cache(maxsize=64)
def _boundaries(groups: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Make ``Packing.boundaries`` (sequences + 1,) once per layout."""
    # A copy to a GPU out of ordinary memory makes the host wait.
    ends = accumulate((length for n, length in groups for _ in range(n)), initial=0)
    return torch.tensor(list(ends), dtype=torch.int32).to(device)


def has_packed_kernel(x: Tensor) -> bool:
    """Tell whether one kernel can attend within sequences of different lengths."""
    return x.is_cuda and x.dtype in HALF_TYPES


def packed_attention(q_THE: Tensor, k_THE: Tensor, v_THE: Tensor, packing: Packing) -> Tensor:
    """Attend within each sequence: (T, H, E)."""
    if has_packed_kernel(q_THE):
        ends, longest = packing.boundaries, packing.max_length
        return varlen_attn(q_THE, k_THE, v_THE, ends, ends, longest, longest)  # type: ignore[return-value]
    attend = _matmul_attention if q_THE.dtype in HALF_TYPES else F.scaled_dot_product_attention
    groups = zip(*(packing.split(x) for x in (q_THE, k_THE, v_THE)), strict=True)
    outputs = [attend(*(x.transpose(1, 2) for x in group)).transpose(1, 2) for group in groups]
    return torch.cat([out.flatten(0, 1) for out in outputs])


def _matmul_attention(q_NHLE: Tensor, k_NHLE: Tensor, v_NHLE: Tensor) -> Tensor:
    """Attend by two matrix products, (N, H, L, E): torch 2.11's fused backward is slow on a CPU."""
    q, k, v = (x.flatten(0, 1) for x in (q_NHLE, k_NHLE, v_NHLE))
    scale = q.shape[-1] ** -0.5
    scores = torch.baddbmm(q.new_zeros(1), q, k.transpose(1, 2), beta=0, alpha=scale)
    return torch.bmm(scores.softmax(dim=-1), v).view_as(q_NHLE)
