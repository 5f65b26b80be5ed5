"""Transformer blocks whose weights are shared while their LayerNorms belong to one modality.

AVSiam (arXiv:2403.19638): attention and MLP see audio and video alike, each modality has its own
norms. Parameter names are the published ones: ``norm1_a``/``norm1_v`` for audio and video,
``norm1`` for the decoder. Blocks use eps 1e-5, final norms 1e-6 (timm's), as the released weights.

Shape legend: B batch, L tokens, T packed tokens, D embed_dim.
"""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline_src.methods.common.packing import Packing, packed_attention
from pipeline_src.methods.common.registers import append_registers, drop_registers

NormName = Literal["audio", "video", "plain"]

NORM_SUFFIX: dict[NormName, str] = {"audio": "_a", "video": "_v", "plain": ""}
BLOCK_NORM_EPS = 1e-5
FINAL_NORM_EPS = 1e-6
TOKEN_INIT_STD = 0.02  # of mask and class tokens


def attend(q_BLHE: Tensor, k_BKHE: Tensor, v_BKHE: Tensor) -> Tensor:
    """Return the values that each query reads, (B, L, H, E) in its type; on a CPU by way of fp32.

    torch 2.11's bfloat16 attention backward on a CPU is about ten times slower than the fp32 one,
    half of a training step's time; the projections stay in the autocast type.
    """
    parts = (q_BLHE, k_BKHE, v_BKHE)
    if q_BLHE.device.type == "cpu" and q_BLHE.dtype != torch.float64:
        parts = tuple(part.float() for part in parts)
    with torch.autocast(q_BLHE.device.type, enabled=False):
        q, k, v = (part.transpose(1, 2) for part in parts)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).to(q_BLHE.dtype)


class Attention(nn.Module):
    """Self-attention, its parameters as timm names them."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, packing: Packing | None = None) -> Tensor:
        """Return tokens of the same shape: (B, L, D), or (T, D) laid out as ``packing`` says."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.unbind(-3)
        if packing is None:
            out = attend(q, k, v)
        else:
            with torch.autocast(q.device.type, enabled=False):
                out = packed_attention(q, k, v, packing)
        return self.proj(out.flatten(-2).to(qkv.dtype))


class Mlp(nn.Module):
    """Two linear layers around a GELU, their parameters as timm names them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm block: one attention and one MLP, one pair of LayerNorms per name in ``norms``.

    Args:
        dim: D, divisible by ``num_heads``.
        mlp_ratio: MLP hidden width / D.
        norms: which norm pairs exist; ``forward`` picks one.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        norms: tuple[NormName, ...],
        norm_eps: float = BLOCK_NORM_EPS,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"embed_dim ({dim}) must be divisible by num_heads ({num_heads})")
        for name in norms:
            setattr(self, f"norm1{NORM_SUFFIX[name]}", nn.LayerNorm(dim, eps=norm_eps))
            setattr(self, f"norm2{NORM_SUFFIX[name]}", nn.LayerNorm(dim, eps=norm_eps))
        self.attn = Attention(dim, num_heads)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, norm: NormName | Packing) -> Tensor:
        """Return tokens of the same shape.

        Args:
            x: (B, L, D) of one modality, whose LayerNorms ``norm`` names; or (T, D), audio and
                video sequences laid out as the packing ``norm`` says, each with its own norms.
        """
        packing = norm if isinstance(norm, Packing) else None
        x = x + self.attn(self._normalise(1, x, norm), packing)
        return x + self.mlp(self._normalise(2, x, norm))

    def _normalise(self, number: int, x: Tensor, norm: NormName | Packing) -> Tensor:
        """Apply the first or second norm of each token's modality; the shape stays."""
        if isinstance(norm, Packing) and norm.only_modality:
            return self._normalise(number, x, norm.only_modality)
        if isinstance(norm, Packing):
            audio, video = x.split(norm.modality_sizes)
            parts = (
                self._normalise(number, audio, "audio"),
                self._normalise(number, video, "video"),
            )
            return torch.cat(parts)
        return getattr(self, f"norm{number}{NORM_SUFFIX[norm]}")(x)


def run_blocks(
    blocks: Iterable[nn.Module],
    x: Tensor,
    norm: NormName | Packing,
    *,
    recompute: bool,
    registers_RD: Tensor | None = None,
) -> Tensor:
    """Run blocks in a row with the norms ``norm``: tokens (B, L, D) or (T, D) as they came.

    Args:
        recompute: checkpoint the gradients.
        registers_RD: tokens beside those of every sequence of a dense ``x``; not returned.
    """
    x = append_registers(x, registers_RD)
    for block in blocks:
        if recompute and torch.is_grad_enabled():
            x = checkpoint(block, x, norm, use_reentrant=False)  # type: ignore[assignment]
        else:
            x = block(x, norm)
    return drop_registers(x, registers_RD)


def init_weights(module: nn.Module) -> None:
    """Fill linear and patch-projection weights Xavier-uniform and their biases with 0 (MAE)."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
