"""Adam with L2 decay, as published, and a bad gradient under either optimiser."""

import pytest
import torch
from torch import nn

from pipeline_src.train.guard import StepGuard
from pipeline_src.train.optim import make_optimizer, parameter_groups
from pipeline_src.train.parallel import clip_gradients


def test_adam_decays_every_tensor_through_its_gradient():
    """L2: the decay is added to the gradient, so Adam divides it by the moments too."""
    named = [
        ("blocks.0.weight", nn.Parameter(torch.full((2, 2), 2.0))),
        ("blocks.0.bias", nn.Parameter(torch.full((2,), 2.0))),
    ]
    groups = parameter_groups(named, lambda _: 1.0, 0.1, decays_all=True)
    optimizer = make_optimizer(groups, lr=0.5, betas=(0.95, 0.999), kind="adam")
    for _, parameter in named:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for _, parameter in named:  # a first step of Adam is lr, whatever the gradient's size
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1.5))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_a_bad_gradient_changes_nothing_whatever_the_optimiser(kind):
    parameter = nn.Parameter(torch.ones(3))
    groups = parameter_groups([("w", parameter)], lambda _: 1.0, 0.1, decays_all=True)
    optimizer = make_optimizer(groups, lr=0.5, betas=(0.95, 0.999), kind=kind)
    parameter.grad = torch.tensor([1.0, float("inf"), 1.0])
    grad_norm = clip_gradients([parameter], 0)
    guard = StepGuard()
    guard.watch(optimizer, grad_norm, lambda: pytest.fail("refused"))
    optimizer.step()
    assert parameter.tolist() == [1, 1, 1]
    with pytest.raises(pytest.fail.Exception, match="refused"):
        guard.settle()
