"""Transformer blocks whose weights are shared while their LayerNorms belong to one modality.

AVSiam (arXiv:2403.19638): attention and MLP see audio and video alike, each modality has its own
norms. Parameter names are the published ones: ``norm1_a``/``norm1_v`` for audio and video,
``norm1`` for the decoder. Blocks use eps 1e-5, final norms 1e-6 (timm's), as the released weights.

Shape legend: B batch, L tokens, D embed_dim.
"""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import Attention, Mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Modality = Literal["audio", "video"]
NormName = Literal["audio", "video", "plain"]

NORM_SUFFIX: dict[NormName, str] = {"audio": "_a", "video": "_v", "plain": ""}
BLOCK_NORM_EPS = 1e-5
FINAL_NORM_EPS = 1e-6


class FastAttention(Attention):
    """timm's attention with the same parameters; on a CPU its softmax core runs in fp32.

    torch 2.11's bfloat16 attention backward on a CPU is about ten times slower than the fp32 one,
    half of a training step's time; the projections stay in the autocast type.
    """

    def forward(self, x_BLD: Tensor) -> Tensor:  # type: ignore[override]  # no attention mask
        """Return tokens of the same shape."""
        qkv = self.qkv(x_BLD).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if q.device.type == "cpu":
            q, k, v = q.float(), k.float(), v.float()
        with torch.autocast(q.device.type, enabled=False):
            out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm block: one attention and one MLP, one pair of LayerNorms per name in ``norms``.

    Args:
        dim: D, divisible by ``num_heads``.
        mlp_ratio: MLP hidden width / D.
        norms: which norm pairs exist; ``forward`` picks one.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float = 4.0, *, norms: tuple[NormName, ...]
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"embed_dim ({dim}) must be divisible by num_heads ({num_heads})")
        for name in norms:
            setattr(self, f"norm1{NORM_SUFFIX[name]}", nn.LayerNorm(dim, eps=BLOCK_NORM_EPS))
            setattr(self, f"norm2{NORM_SUFFIX[name]}", nn.LayerNorm(dim, eps=BLOCK_NORM_EPS))
        self.attn = FastAttention(dim, num_heads, qkv_bias=True)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x_BLD: Tensor, norm: NormName) -> Tensor:
        """Return tokens of the same shape; ``norm`` names the LayerNorms that are used."""
        norm1 = getattr(self, f"norm1{NORM_SUFFIX[norm]}")
        norm2 = getattr(self, f"norm2{NORM_SUFFIX[norm]}")
        x_BLD = x_BLD + self.attn(norm1(x_BLD))
        return x_BLD + self.mlp(norm2(x_BLD))


def run_blocks(
    blocks: Iterable[nn.Module], x_BLD: Tensor, norm: NormName, *, recompute: bool
) -> Tensor:
    """Run blocks in a row with the norms ``norm``; ``recompute`` checkpoints their gradients."""
    for block in blocks:
        if recompute and torch.is_grad_enabled():
            x_BLD = checkpoint(block, x_BLD, norm, use_reentrant=False)  # type: ignore[assignment]
        else:
            x_BLD = block(x_BLD, norm)
    return x_BLD


def init_weights(module: nn.Module) -> None:
    """Fill linear and patch-projection weights Xavier-uniform and their biases with 0 (MAE)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
