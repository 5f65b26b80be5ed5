"""Tensors that ranks hold a part of each (FSDP2's DTensor), as checkpoints need them: whole.

The package of DTensor takes a second to import and is left to those who split a network: who has
such a tensor has imported it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def whole(value: Tensor) -> Tensor:
    """Gather a tensor, in its full shape, as if it were not split; every rank must ask."""
    return value.full_tensor() if _is_split(value) else value


def gather(named: Iterable[tuple[str, Tensor]], *, keeps: bool) -> dict[str, Tensor]:
    """Gather tensors in their full shapes on the CPU; every rank asks, those that keep get them."""
    gathered = {}
    for name, value in named:
        tensor = whole(value.detach())
        if keeps:
            gathered[name] = tensor.cpu().contiguous()
    return gathered


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """Put ``value``, whose full shape stays, on the parameter's device, split as the parameter is.

    Scalars stay whole.
    """
    value = value.to(parameter.device)
    if _is_split(parameter) and value.ndim:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value, parameter.device_mesh, parameter.placements)
    return value


def _is_split(value: Tensor) -> "TypeGuard[DTensor]":
    return hasattr(value, "device_mesh")
