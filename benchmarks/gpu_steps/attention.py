"""Attention within packed sequences, by the kernels that torch has for it: forward and backward.

Shape legend: T tokens of all sequences, H heads, E head width.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from benchmarks.gpu_steps.setting import Setting
from pipeline_src.methods.common.packing import Packing, packed_attention
from pipeline_src.methods.common.ratios import num_kept

RATIOS = (0.0, 0.125, 0.25, 0.375, 0.5)
TOKENS = (512, 196)  # of AVSiam-B: audio, video
NUM_HEADS, HEAD_WIDTH = 12, 64
BLOCK = 128
Attend = Callable[[Tensor, Tensor, Tensor, Packing], Tensor]


def measure(setting: Setting, kind: str) -> dict[str, float]:
    """Milliseconds of one layer at AVSiam-B's sequences, and how far its output is from plain."""
    attend = KINDS[kind]
    layout = _layout(setting)
    total = sum(layout.modality_sizes)
    half = torch.bfloat16 if setting.on_gpu else torch.float32
    q, k, v, gradient = torch.randn(
        4, total, NUM_HEADS, HEAD_WIDTH, device=setting.device, dtype=half
    ).unbind(0)
    trains = setting.on_gpu or kind != "flex"  # which has no backward pass on a CPU
    own_q, own_k, own_v = (x.clone().requires_grad_(trains) for x in (q, k, v))

    def both() -> None:
        out = attend(own_q, own_k, own_v, layout)
        if out.requires_grad:
            out.backward(gradient)

    own = attend(own_q, own_k, own_v, layout).detach()
    apart = (own - _groups(q, k, v, layout)).abs().max().item()
    seconds = setting.seconds(both, setting.repeats)
    return {"milliseconds": 1000 * seconds, "largest_difference": apart, "num_tokens": total}


def _layout(setting: Setting) -> Packing:
    """The groups of a batch: as many clips for each ratio, on either side."""
    size, tokens = setting.batch_size, (32, 16) if setting.quick else TOKENS
    clips = [len(range(number, size, len(RATIOS))) for number in range(len(RATIOS))]
    audio, video = (
        tuple((n, num_kept(count, r)) for n, r in zip(clips, RATIOS, strict=True))
        for count in tokens
    )
    return Packing(audio, video, setting.device)


def _groups(q: Tensor, k: Tensor, v: Tensor, layout: Packing) -> Tensor:
    """One dense batch per group: (T, H, E)."""
    groups = zip(*(layout.split(x) for x in (q, k, v)), strict=True)
    parts = [
        F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in one)).transpose(1, 2)
        for one in groups
    ]
    return torch.cat([part.flatten(0, 1) for part in parts])


def _nested(q: Tensor, k: Tensor, v: Tensor, layout: Packing) -> Tensor:
    """Jagged nested tensors: (T, H, E)."""
    lengths = [length for _, length in layout.groups]

    def jagged(x: Tensor) -> Tensor:
        return torch.nested.nested_tensor_from_jagged(
            x, layout.boundaries, min_seqlen=min(lengths), max_seqlen=max(lengths)
        ).transpose(1, 2)

    return F.scaled_dot_product_attention(jagged(q), jagged(k), jagged(v)).transpose(1, 2).values()


def _flex(q: Tensor, k: Tensor, v: Tensor, layout: Packing) -> Tensor:
    """Compiled flex attention under a mask of blocks along the diagonal: (T, H, E)."""
    if layout not in _FLEX:
        _FLEX.clear()
        run: Callable[..., Any] = (
            torch.compile(flex_attention, dynamic=False) if q.is_cuda else flex_attention
        )
        _FLEX[layout] = run, _block_mask(layout)
    run, mask = _FLEX[layout]
    heads_first = (x.transpose(0, 1)[None] for x in (q, k, v))
    return run(*heads_first, block_mask=mask)[0].transpose(0, 1)


_FLEX: dict[Packing, tuple[Callable[..., Any], BlockMask]] = {}


def _block_mask(layout: Packing) -> BlockMask:
    """Which blocks of tokens share a sequence, without the whole T x T mask in between."""
    lengths = [length for n, length in layout.groups for _ in range(n)]
    ends = list(accumulate(lengths))
    total = ends[-1]
    sequence_of = [number for number, length in enumerate(lengths) for _ in range(length)]
    rows = []
    for first in range(0, total, BLOCK):
        last = min(first + BLOCK, total) - 1
        begin = ends[sequence_of[first]] - lengths[sequence_of[first]]
        rows.append(range(begin // BLOCK, (ends[sequence_of[last]] - 1) // BLOCK + 1))
    indices = torch.zeros(1, 1, len(rows), len(rows), dtype=torch.int32)
    for number, row in enumerate(rows):
        indices[0, 0, number, : len(row)] = torch.tensor(list(row), dtype=torch.int32)
    counts = torch.tensor([len(row) for row in rows], dtype=torch.int32)[None, None]
    owner = torch.tensor(sequence_of, device=layout.device)
    return BlockMask.from_kv_blocks(
        counts.to(layout.device),
        indices.to(layout.device),
        BLOCK_SIZE=BLOCK,
        mask_mod=lambda b, h, q_at, kv_at: owner[q_at] == owner[kv_at],
        seq_lengths=(total, total),
    )


KINDS: dict[str, Attend] = {
    "varlen": packed_attention,
    "group by group": _groups,
    "nested": _nested,
    "flex": _flex,
}
