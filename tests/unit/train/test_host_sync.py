"""A training step never waits for the values of its tensors, so a GPU's queue never runs dry.

Without a GPU the step runs on tensors that have shapes but no values: reading one is an error.
"""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from pipeline_src.config import AugmentConfig, OptimConfig
from pipeline_src.config.phases import Phase, make_schedule
from pipeline_src.loader.augment import augment_batch
from pipeline_src.methods.avsiam.objective import AVSiamPretrain
from pipeline_src.methods.cav_mae.objective import CAVMAEPretrain
from pipeline_src.methods.common.classify import Classify
from pipeline_src.methods.common.contrast import sample_negatives
from pipeline_src.methods.factory import create_model
from pipeline_src.methods.mavil.objective import MAViLPretrain
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.guard import StepGuard
from pipeline_src.train.loop import Run, _take_step
from pipeline_src.train.optim import make_optimizer, parameter_groups
from pipeline_src.train.progress import TrainProgress
from tests.networks import RATIOS

pytestmark = pytest.mark.slow

SHAPE = {"img_size": 32, "target_length": 96, "num_mel_bins": 64, "patch_size": 16}
AUGMENT = AugmentConfig(
    noise=0.1, time_shift=3, time_roll=5, freq_shift=2, gain=0.1, freq_mask=4, time_mask=8,
    crop_scale=0.8, image_shift=0.1, image_rotate=5, flip=True,
)  # fmt: skip
SCHEDULE = make_schedule(24, epochs=2, batch_size=6, phases=[Phase(6, RATIOS)])
OBJECTIVES = {
    "avsiam": lambda: AVSiamPretrain(create_model("avsiam_tiny", **SHAPE), pack_sequences="never"),
    "avsiam packed": lambda: AVSiamPretrain(
        create_model("avsiam_tiny", **SHAPE), pack_sequences="always"
    ),
    "cav_mae": lambda: CAVMAEPretrain(create_model("cav_mae_tiny", **SHAPE)),
    "diffmavil": lambda: MAViLPretrain(
        create_model("diffmavil_tiny", **SHAPE, num_frames=1, tubelet_size=1), decode_fraction=0.5
    ),
    "classify": lambda: Classify(
        create_model("avsiam_tiny", num_classes=4, **SHAPE), task="multilabel", all_heads=True
    ),
}


def make_run(name, device, guard):
    objective = OBJECTIVES[name]()
    if device != "cpu":
        objective.to(device)
    groups = parameter_groups(objective.named_parameters(), lambda _: 1.0, 0.01)
    return Run(
        folder=Path(),
        recipe=OptimConfig(),
        model=objective,
        objective_module=objective,
        objective=objective,
        optimizers={
            name: make_optimizer(groups, lr=0.05, betas=(0.9, 0.95)) for name in objective.passes
        },
        augment=lambda batch, generator: augment_batch(
            batch, generator=generator, **AUGMENT.model_dump()
        ),
        validate=None,
        validate_every_steps=5,
        describe=lambda indices: [],
        state={},
        ranks=Ranks(0, 1, torch.device(device)),
        guard=guard,
        is_mixed=True,
        negatives=partial(choose_negatives, device),
    )


def choose_negatives(device, step):
    """As with an adaptive batch: each of the six clips is scored against three others."""
    return sample_negatives(6, 4, torch.Generator(device).manual_seed(step))


def make_batch(device):
    tensor = partial(torch.randn, device=device)
    targets = torch.zeros(6, 4, device=device)
    frames = tensor(6, 1, 3, 32, 32)
    return {
        "logmel": tensor(6, 96, 64),
        "frames": frames,
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
        logged = _take_step(run, make_batch("cpu"), TrainProgress(0, SCHEDULE))
    assert logged["loss"].shape == ()


def test_a_step_that_reads_a_value_is_found():
    with FakeTensorMode(allow_non_fake_inputs=True):
        run = make_run("cav_mae", "cpu", StepGuard(reads_at_once=True))
        with pytest.raises(DataDependentOutputException):
            _take_step(run, make_batch("cpu"), TrainProgress(0, SCHEDULE))


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here: run pytest -m gpu on a machine with one"
)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_on_a_gpu_does_not_wait(name):
    run = make_run(name, "cuda", StepGuard())
    batches = [make_batch("cuda") for _ in range(4)]
    for step in range(2):  # lets caches fill: kernels, layouts, pinned memory
        _take_step(run, batches[step], TrainProgress(step, SCHEDULE))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(2, 4):
            _take_step(run, batches[step], TrainProgress(step, SCHEDULE))
    finally:
        torch.cuda.set_sync_debug_mode("default")
