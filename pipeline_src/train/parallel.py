"""How a network is carried out: compiled, as a copy per rank (DDP) or split over ranks (FSDP2).

FSDP2 is torch's ``fully_shard``: a block is gathered when it runs, so a rank holds its part of
weights, gradients and moments only. Both compute the same step.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from pipeline_src.methods.common.blocks import Block
from pipeline_src.runs.sharded import whole
from pipeline_src.train.distributed import Ranks

COMPILED_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
ENTRANCES = "forward_"  # begins what objectives and validation call besides ``forward``


def shard_model(model: nn.Module, ranks: Ranks) -> None:
    """Split every parameter over the ranks, in place; before optimisers are made."""
    mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in dir(model):
        if name.startswith(ENTRANCES):
            register_fsdp_forward_method(model, name)


def compile_blocks(model: nn.Module, kept_in: Path | None = None) -> None:
    """Compile every transformer block, in place; before DDP or ``shard_model``.

    Blocks of one kind share their compiled code, so a deep network takes no longer than one
    block; the whole network as one graph would be compiled anew for each block and mask layout.

    Args:
        kept_in: folder of compiled code for the next training of the same shapes, unless the
            environment names one; None = torch's own.
    """
    if kept_in:
        os.environ.setdefault(COMPILED_VARIABLE, str(kept_in))
    for module in model.modules():
        if isinstance(module, Block):
            module.compile()


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale gradients to at most ``max_norm`` over all parameters; return the norm before, 0-d.

    Args:
        max_norm: 0 = leave them as they are.
    """
    if max_norm:
        return whole(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
    gradients = [one.grad for one in parameters if one.grad is not None]
    return whole(torch.nn.utils.get_total_norm(gradients))
