"""Tensors that ranks hold a part of each (FSDP2's DTensor), as checkpoints need them: whole."""

from collections.abc import Iterable

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(value: Tensor) -> Tensor:
    """Gather a tensor, in its full shape, as if it were not split; every rank must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


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
    if isinstance(parameter, DTensor) and value.ndim:
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)
    return value
