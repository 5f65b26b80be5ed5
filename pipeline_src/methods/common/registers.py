"""Register tokens: learned tokens that a sequence's own tokens attend to, then dropped.

"Vision Transformers Need Registers" (arXiv:2309.16588). They have no position, are never masked,
and no loss and no pooling reads them.

Shape legend: B batch, L tokens, R registers of a modality, D embed_dim.
"""

import torch
from torch import Tensor, nn

from pipeline_src.methods.common.config import NetworkConfig

REGISTER_INIT_STD = 0.02


def make_registers(
    config: NetworkConfig, num_modalities: int = 1, *, std: float = REGISTER_INIT_STD
) -> nn.Parameter:
    """Make the registers of all modalities in one parameter: (num_modalities * R, D)."""
    tokens = torch.zeros(num_modalities * config.num_registers, config.embed_dim)
    return nn.Parameter(nn.init.normal_(tokens, std=std))


def modality_registers(module: nn.Module, config: NetworkConfig, modality: str) -> Tensor | None:
    """Pick a modality's part of ``module.register_tokens``, audio first: (R, D); None if none."""
    if not config.num_registers:
        return None
    tokens: Tensor = module.register_tokens  # type: ignore[assignment]
    return tokens.chunk(2)[0 if modality == "audio" else 1]


def append_registers(x_BLD: Tensor, registers_RD: Tensor | None) -> Tensor:
    """Put registers, if there are any, behind every sequence: (B, L + R, D)."""
    if registers_RD is None:
        return x_BLD
    num_sequences = x_BLD.shape[0]  # len() would be a constant in an ONNX export
    tokens_BRD = registers_RD.to(x_BLD.dtype).expand(num_sequences, -1, -1)
    return torch.cat([x_BLD, tokens_BRD], dim=1)


def drop_registers(x_BLD: Tensor, registers_RD: Tensor | None) -> Tensor:
    """Undo ``append_registers``: (B, L, D)."""
    return x_BLD if registers_RD is None else x_BLD[:, : -len(registers_RD)]
