"""Decoder of one modality of MAViL (arXiv:2212.08071) and DiffMAViL (arXiv:2310.03937).

Fused visible tokens in, a vector per hidden token out. Kinds, after DiffMAE (arXiv:2304.03283):
"joint" attends over visible and hidden tokens at once; in "cross" hidden tokens read the visible
ones and not each other; "cross_self" does both in turn. A hidden token starts as a learned mask
token, or with ``diffusion`` as an embedding of its noised patch and the diffusion step, whose bias
takes the mask token's part; its position is added. Visible tokens that are only read carry no
position of their own here.

Shape legend: B batch, K kept tokens, Q hidden tokens to predict, C tokens that are read,
D decoder width, E encoder width, P vector to predict.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline_src.methods.common.blocks import Attention, Block, Mlp, attend
from pipeline_src.methods.common.pos_embed import sinusoids
from pipeline_src.methods.mavil.config import DecoderKind, MAViLConfig
from pipeline_src.methods.mavil.encoder import NORM_EPS


class Noised(NamedTuple):
    """Hidden patches at a diffusion step: (B, Q, P), and the steps (B,), 1 to T."""

    patches_BQP: Tensor
    steps_B: Tensor


class CrossAttention(nn.Module):
    """Queries of one sequence, keys and values of another."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BQD: Tensor, context_BCD: Tensor) -> Tensor:
        """Read ``context_BCD``: (B, Q, D)."""
        q = self.q(x_BQD).unflatten(-1, (self.num_heads, -1))
        k, v = self.kv(context_BCD).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        return self.proj(attend(q, k, v).flatten(-2))


class CrossBlock(nn.Module):
    """Pre-norm block: cross-attention, with ``attends_itself`` self-attention, then an MLP."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, *, attends_itself: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.cross = CrossAttention(dim, num_heads)
        self.attn = None
        if attends_itself:
            self.norm_self = nn.LayerNorm(dim, eps=NORM_EPS)
            self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x_BQD: Tensor, context_BCD: Tensor) -> Tensor:
        """Return the queries, (B, Q, D)."""
        x_BQD = x_BQD + self.cross(self.norm1(x_BQD), context_BCD)
        if self.attn is not None:
            x_BQD = x_BQD + self.attn(self.norm_self(x_BQD))
        return x_BQD + self.mlp(self.norm2(x_BQD))


class ModalityDecoder(nn.Module):
    """Predict hidden tokens of one modality.

    Args:
        pos_embed_1LD: fixed positions of all tokens of the modality.
        patch_dim: values of a patch.
    """

    pos_embed: Tensor

    def __init__(
        self, config: MAViLConfig, kind: DecoderKind, *, pos_embed_1LD: Tensor, patch_dim: int
    ) -> None:
        super().__init__()
        dim = config.decoder_embed_dim
        self.kind: DecoderKind = kind
        self.reads_both = config.context == "both"
        self.norm_in = nn.LayerNorm(config.embed_dim, eps=NORM_EPS)
        self.embed = nn.Linear(config.embed_dim, dim)
        self.register_buffer("pos_embed", pos_embed_1LD)
        if config.diffusion:
            self.noisy_embed = nn.Linear(patch_dim, dim)
            self.step_embed = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        else:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = _make_blocks(config, kind)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.pred = nn.Linear(dim, config.embed_dim if config.predicts == "features" else patch_dim)

    def forward(
        self,
        own_BKE: Tensor,
        other_BKE: Tensor,
        ids_keep_BK: Tensor,
        ids_BQ: Tensor,
        noised: Noised | None = None,
    ) -> Tensor:
        """Predict the tokens ``ids_BQ``: (B, Q, P).

        Args:
            own_BKE, other_BKE: fused tokens of this and of the other modality, class token first.
            ids_keep_BK: places of the own kept tokens.
        """
        hidden_BQD = self._hidden(ids_BQ, noised)
        if self.kind == "joint":
            kept_BKD = self.embed(self.norm_in(own_BKE))
            placed_BKD = kept_BKD[:, 1:] + self.pos_embed[0, ids_keep_BK]
            x_BLD = torch.cat([kept_BKD[:, :1], placed_BKD, hidden_BQD], dim=1)
            for block in self.blocks:
                x_BLD = block(x_BLD, "plain")
            hidden_BQD = x_BLD[:, -ids_BQ.shape[1] :]
        else:
            parts = [own_BKE, other_BKE[:, 1:]] if self.reads_both else [own_BKE]
            context_BCD = self.embed(self.norm_in(torch.cat(parts, dim=1)))
            for block in self.blocks:
                hidden_BQD = block(hidden_BQD, context_BCD)
        return self.pred(self.norm(hidden_BQD))

    def _hidden(self, ids_BQ: Tensor, noised: Noised | None) -> Tensor:
        """Make what stands at the hidden places before the first block: (B, Q, D)."""
        positions_BQD = self.pos_embed[0, ids_BQ]
        if noised is None:
            return self.mask_token + positions_BQD
        step_BD = self.step_embed(sinusoids(noised.steps_B, positions_BQD.shape[-1]))
        return self.noisy_embed(noised.patches_BQP) + positions_BQD + step_BD[:, None]


def _make_blocks(config: MAViLConfig, kind: DecoderKind) -> nn.ModuleList:
    sizes = (config.decoder_embed_dim, config.decoder_num_heads, config.mlp_ratio)
    if kind == "joint":
        blocks = [
            Block(*sizes, norms=("plain",), norm_eps=NORM_EPS) for _ in range(config.decoder_depth)
        ]
    else:
        itself = kind == "cross_self"
        blocks = [CrossBlock(*sizes, attends_itself=itself) for _ in range(config.decoder_depth)]
    return nn.ModuleList(blocks)
