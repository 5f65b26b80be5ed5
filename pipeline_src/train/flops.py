"""Floating point operations by part of a network, forward and backward.

torch's counter names modules in the forward pass only reliably; here the nodes of the autograd
graph remember the part that made them, so that the backward pass is told apart too.
"""

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

OTHER = "other"  # embeddings and losses: what runs outside the named parts
PART_KEY = "part"


class PartCounter(FlopCounterMode):
    """Count matrix products by part; ``forward`` and ``backward`` hold operations per part."""

    def __init__(self, parts: dict[str, list[nn.Module]]) -> None:
        super().__init__(display=False)
        self.forward: dict[str, float] = defaultdict(float)
        self.backward: dict[str, float] = defaultdict(float)
        self._part = OTHER
        self._parts = parts
        self._hooks: list[Any] = []

    def __enter__(self) -> "PartCounter":
        for name, modules in self._parts.items():
            for module in modules:
                self._hooks += [
                    module.register_forward_pre_hook(partial(self._begin, name)),
                    module.register_forward_hook(self._finish),
                ]
        super().__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        for hook in self._hooks:
            hook.remove()

    def _begin(self, name: str, module: nn.Module, inputs: Any) -> None:
        self._part = name

    def _finish(self, module: nn.Module, inputs: Any, output: Any) -> None:
        part, self._part = self._part, OTHER
        known = {tensor.grad_fn for tensor in _tensors(inputs) if tensor.grad_fn is not None}
        pending = [tensor.grad_fn for tensor in _tensors(output)]
        while pending:
            node = pending.pop()
            if node is None or node in known or PART_KEY in _labels(node):
                continue
            _labels(node)[PART_KEY] = part
            pending += [parent for parent, _ in node.next_functions]

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        before = self.get_total_flops()
        out = super()._count_flops(func_packet, out, args, kwargs)
        count = self.get_total_flops() - before
        node = torch._C._current_autograd_node()
        if node is None:
            self.forward[self._part] += count
        else:
            self.backward[_labels(node).get(PART_KEY, OTHER)] += count
        return out


def _labels(node: Any) -> dict[str, str]:
    return node.metadata  # the type stubs call this property a method


def _tensors(values: Any) -> Iterable[Tensor]:
    """List the tensors, of any shape, among what a module takes or returns."""
    values = values if isinstance(values, tuple | list) else (values,)
    return [value for value in values if isinstance(value, Tensor)]


def network_parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Collect a network's children by name; a list of modules is one part."""
    return {
        name: list(child) if isinstance(child, nn.ModuleList) else [child]
        for name, child in model.named_children()
    }
