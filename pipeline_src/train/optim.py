"""AdamW or Adam over parameter groups with learning-rate factors per layer, fusion and head."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import nn

from pipeline_src.config import OptimConfig


def build_optimizers(
    recipe: OptimConfig,
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    passes: Iterable[str],
    lr_factor: Callable[[str], float],
) -> dict[str, torch.optim.Optimizer]:
    """Build one optimiser per pass, each over all parameters with its own state (AVSiam, released).

    Args:
        lr_factor: name of a parameter -> factor of its learning rate.
    """
    named = list(named_parameters)
    decays_all = recipe.optimizer == "adam"  # as released
    return {
        step_pass: make_optimizer(
            parameter_groups(named, lr_factor, recipe.weight_decay, decays_all=decays_all),
            lr=recipe.lr,
            betas=(recipe.beta1, recipe.beta2),
            kind=recipe.optimizer,
        )
        for step_pass in passes
    }


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    lr_factor: Callable[[str], float],
    weight_decay: float,
    *,
    decays_all: bool = False,
) -> list[dict[str, object]]:
    """Group trainable parameters by (learning-rate factor, weight decay).

    Norms, biases, positions and tokens are not decayed unless ``decays_all``: what a layer calls
    its weight is, and a network's own parameters are not. Each group carries ``lr_factor``.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            is_matrix = parameter.ndim > 1 and name.endswith("weight")
            decay = weight_decay if is_matrix or decays_all else 0.0
            groups[(lr_factor(name), decay)].append(parameter)
    return [
        {"params": parameters, "lr_factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def make_optimizer(
    groups: list[dict[str, object]],
    *,
    lr: float,
    betas: tuple[float, float],
    kind: Literal["adamw", "adam"] = "adamw",
) -> torch.optim.Optimizer:
    """Make fused AdamW (decoupled weight decay) or Adam (L2); the groups hold the decay."""
    make = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return make(groups, lr=lr, betas=betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give each group ``lr`` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def layer_lr_factor(
    layer: int | str, *, num_layers: int, layer_decay: float, head: float, fusion: float
) -> float:
    """Return the factor of one parameter by what ``model.layer_id`` calls it.

    Encoder layer i gets ``layer_decay ** (num_layers - i)``: embeddings (layer 0) change least.
    """
    if layer == "head":
        return head
    if isinstance(layer, str):
        return fusion
    return layer_decay ** (num_layers - layer)
