"""A training step never waits for the values of its tensors, so a GPU's queue never runs dry.

Without a GPU the step runs on tensors that have shapes but no values: reading one is an error.
"""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from pipeline_src.config import AugmentConfig, OptimConfig, PretrainConfig
from pipeline_src.config.phases import Phase, make_schedule
from pipeline_src.loader.augment import augment_batch
from pipeline_src.methods import METHODS
from pipeline_src.methods.common.contrast import sample_negatives
from pipeline_src.methods.factory import create_model
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.guard import StepGuard
from pipeline_src.train.learner import Learner
from pipeline_src.train.loop import TrainingRun, _take_step
from pipeline_src.train.objective import pretrain_objective
from pipeline_src.train.optim import make_optimizer, parameter_groups
from pipeline_src.train.progress import TrainProgress
from tests.networks import ratios_of
from tests.objectives import published_classifier

pytestmark = pytest.mark.slow

SHAPE = {"img_size": 32, "target_length": 96, "num_mel_bins": 64, "patch_size": 16}
AUGMENT = AugmentConfig(
    noise=0.1, time_shift=3, time_roll=5, freq_shift=2, gain=0.1, freq_mask=4, time_mask=8,
    crop_scale=0.8, image_shift=0.1, image_rotate=5, flip=True,
)  # fmt: skip


def pretraining(method, **recipe):
    model = create_model(f"{method}_tiny", **SHAPE)
    return pretrain_objective(method, model, PretrainConfig.model_validate(recipe))


def classifier(method, task="multiclass"):
    model = create_model(f"{method}_tiny", num_classes=4, **SHAPE)
    return published_classifier(model, task=task, all_heads=True)


def progress(run, step=0):
    phases = [Phase(6, ratios_of(run.learner.objective))]
    return TrainProgress(step, make_schedule(24, epochs=2, batch_size=6, phases=phases))


OBJECTIVES = {
    **{method: partial(pretraining, method) for method in METHODS},
    **{f"classify {method}": partial(classifier, method) for method in METHODS},
    "classify, several labels": partial(classifier, "avsiam", "multilabel"),
    "avsiam group by group": partial(pretraining, "avsiam", pack_sequences="never"),
    "avsiam packed": partial(pretraining, "avsiam", pack_sequences="always"),
    "diffmavil half decoded": partial(
        pretraining, "diffmavil", mavil={"decode_fraction": 0.5, "shared_step": True}
    ),
}


def make_run(name, device, guard):
    objective = OBJECTIVES[name]()
    if device != "cpu":
        objective.to(device)
    groups = parameter_groups(objective.named_parameters(), lambda _: 1.0, 0.01)
    return TrainingRun(
        folder=Path(),
        recipe=OptimConfig(),
        learner=Learner(
            objective=objective,
            forward=objective,
            optimizers={
                name: make_optimizer(groups, lr=0.05, betas=(0.9, 0.95))
                for name in objective.passes
            },
            guard=guard,
            is_mixed=True,
        ),
        augment=lambda batch, generator: augment_batch(batch, AUGMENT, generator=generator),
        validate=None,
        validate_every_steps=5,
        describe=lambda indices: [],
        state={},
        ranks=Ranks(0, 1, torch.device(device)),
        negatives=partial(choose_negatives, device),
    )


def choose_negatives(device, step):
    """As with an adaptive batch: each of the six clips is scored against three others."""
    return sample_negatives(6, 4, torch.Generator(device).manual_seed(step))


def make_batch(run):
    """A batch as a step gets it, with as many frames as the network sees."""
    device = run.ranks.device
    tensor, targets = partial(torch.randn, device=device), torch.zeros(6, 4, device=device)
    return {
        "logmel": tensor(6, 96, 64),
        "frames": tensor(6, run.learner.model.config.num_frames, 3, 32, 32),
        "targets": targets,
        "index": targets[:, 0],
    }


class Unread(StepGuard):
    """Takes every verdict as pending: with two passes even the first is not looked at."""

    def settle(self):
        self._pending = None


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_reads_no_value(name):
    with FakeTensorMode(allow_non_fake_inputs=True):
        run = make_run(name, "cpu", Unread())
        logged = _take_step(run, make_batch(run), progress(run))
    assert logged["loss"].shape == ()


def test_a_step_that_reads_a_value_is_found():
    with FakeTensorMode(allow_non_fake_inputs=True):
        run = make_run("cav_mae", "cpu", StepGuard(reads_at_once=True))
        with pytest.raises(DataDependentOutputException):
            _take_step(run, make_batch(run), progress(run))


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here: run pytest -m gpu on a machine with one"
)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_on_a_gpu_does_not_wait(name):
    run = make_run(name, "cuda", StepGuard())
    batches = [make_batch(run) for _ in range(4)]
    for step in range(2):  # lets caches fill: kernels, layouts, pinned memory
        _take_step(run, batches[step], progress(run, step))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(2, 4):
            _take_step(run, batches[step], progress(run, step))
    finally:
        torch.cuda.set_sync_debug_mode("default")
