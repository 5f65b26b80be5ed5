"""Attentive pooling: a class token reads a set of features through blocks, then classifies.

Shape legend: B batch, N features of a clip, D their width, C classes.
"""

import torch
from torch import Tensor, nn

from pipeline_src.methods.common.blocks import BLOCK_NORM_EPS, TOKEN_INIT_STD, Block, init_weights

AGGREGATOR_DEPTH = 2


class Aggregator(nn.Module):
    """Class token, blocks, norm and linear layer (CAV-MAE Sync, released code).

    Features have no positions: their order does not matter.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        num_heads: int,
        mlp_ratio: float = 4.0,
        depth: int = AGGREGATOR_DEPTH,
    ) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, norms=("plain",)) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.head = nn.Linear(dim, num_classes)
        self.start()

    def start(self) -> None:
        """Draw start values; scores begin near 0."""
        self.apply(init_weights)
        nn.init.normal_(self.token, std=TOKEN_INIT_STD)
        nn.init.trunc_normal_(self.head.weight, std=TOKEN_INIT_STD)

    def forward(self, features_BND: Tensor) -> Tensor:
        """Score clips by their features: (B, C)."""
        token = self.token.to(features_BND.dtype).expand(len(features_BND), -1, -1)
        x_BLD = torch.cat([token, features_BND], dim=1)
        for block in self.blocks:
            x_BLD = block(x_BLD, "plain")
        return self.head(self.norm(x_BLD[:, 0]))
