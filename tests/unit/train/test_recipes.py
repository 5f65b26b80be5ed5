"""Optimiser and schedule as published: Adam with L2 decay, a rate that falls at ends of epochs."""

import pytest
import torch
from torch import nn

from pipeline_src.config import OptimConfig
from pipeline_src.config.phases import even_schedule
from pipeline_src.train.guard import StepGuard
from pipeline_src.train.learning_rate import learning_rate
from pipeline_src.train.optim import make_optimizer, parameter_groups
from pipeline_src.train.parallel import clip_gradients
from pipeline_src.train.progress import TrainProgress


def rates(num_clips, batch_size, num_epochs, **recipe):
    """The learning rate of every step, from the recipe."""
    schedule = even_schedule(num_clips, batch_size, num_epochs)
    optim = OptimConfig(lr=1.0, schedule="step", warmup_epochs=0, **recipe)
    progresses = [TrainProgress(step, schedule) for step in range(schedule.num_steps)]
    return [learning_rate(optim, progress) for progress in progresses]


@pytest.mark.parametrize(
    ("num_clips", "batch_size"), [(12, 4), (10, 3), (49, 1), (1_772_023, 4096)]
)
def test_the_stepped_rate_falls_exactly_at_the_ends_of_epochs(num_clips, batch_size):
    """From epoch 2 on x.75: a step has the rate of the epoch that its first clip is in."""
    recipe = {"decay_start_epoch": 2, "decay_every_epochs": 1, "decay_factor": 0.75}
    for step, rate in enumerate(rates(num_clips, batch_size, 6, **recipe)):
        epochs_done = step * batch_size // num_clips
        assert rate == pytest.approx(0.75 ** max(0, epochs_done - 1))


def test_the_stepped_rate_of_cav_maes_pretraining():
    """x.5 after 10, 15, 20 and 25 epochs; these are the defaults of the decay keys."""
    found = rates(8, 4, 27)[::2]
    assert found == [1.0] * 10 + [0.5] * 5 + [0.25] * 5 + [0.125] * 5 + [0.0625] * 2


def test_a_stepped_rate_warms_up_and_no_warm_up_starts_at_the_peak():
    optim = OptimConfig(lr=1.0, schedule="step", warmup_epochs=1)
    found = [
        learning_rate(optim, TrainProgress(step, even_schedule(10, 1, 10))) for step in range(12)
    ]
    assert found == pytest.approx([(step + 0.5) / 10 for step in range(10)] + [1, 1])
    assert rates(10, 1, 1)[0] == 1
    cosine = OptimConfig(lr=1.0, warmup_epochs=0)
    assert learning_rate(cosine, TrainProgress(0, even_schedule(10, 1, 100))) == pytest.approx(
        1, abs=1e-5
    )


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


def test_a_gradient_limit_of_zero_clips_nothing():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([parameter], 0) == 5
    assert parameter.grad.tolist() == [3, 4]
    assert clip_gradients([parameter], 1) == 5
    assert parameter.grad.tolist() == pytest.approx([0.6, 0.8])


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
