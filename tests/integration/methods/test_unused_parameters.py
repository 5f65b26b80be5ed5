"""What an objective says of parameters without a gradient: DDP ends a training that was told wrong.

It waits for a gradient of every parameter unless ``find_unused_parameters`` says that some have
none; the next step then fails on every rank.
"""

import pytest
import torch

from pipeline_src.methods.factory import create_model
from tests.networks import SMALL, ratios_of
from tests.objectives import published_classifier, published_objective

NETWORKS = (
    ("avsiam", {}),
    ("avsiam", {"audio_vit": "separate"}),
    ("avsiam", {"encoders": "separate"}),
    ("cav_mae", {}),
    ("cav_mae_sync", {}),
    ("mavil", {}),
    ("diffmavil", {}),
)
WEIGHTS = ({}, {"contrast_weight": 0.0}, {"reconstruct_weight": 0.0})
CLASSIFIERS = ("tokens", "pairs", "single", "frame")
BOTH_ZERO = {"contrast_weight": 0.0, "intra_weight": 0.0}


def make(method, num_classes=0, **overrides):
    torch.manual_seed(0)
    return create_model(f"{method}_tiny", num_classes=num_classes, **{**SMALL, **overrides})


def make_batch(model):
    generator = torch.Generator().manual_seed(0)
    return {
        "logmel": torch.randn(5, 24, 16, generator=generator),
        "frames": torch.randn(5, model.config.num_frames, 3, 16, 16, generator=generator),
        "targets": torch.eye(5),
    }


def passes_that_leave_some(objective, ratios):
    """Name the passes after which a parameter that is trained has no gradient."""
    found = []
    for step_pass in objective.passes:
        objective.zero_grad(set_to_none=True)
        plan = objective.draw(5, ratios, torch.Generator().manual_seed(0))
        objective(make_batch(objective.model), plan, step_pass)["loss"].backward()
        trained = (p for p in objective.parameters() if p.requires_grad)
        if any(parameter.grad is None for parameter in trained):
            found.append(step_pass)
    return found


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize(
    ("method", "overrides", "steps"),
    [
        (method, overrides, {"joint_step": joint} if method == "avsiam" else {})
        for method, overrides in NETWORKS
        for joint in ((False, True) if method == "avsiam" else (False,))
    ],
    ids=str,
)
def test_a_pretraining_says_whether_a_pass_leaves_parameters(method, overrides, steps, weights):
    keys = {**weights, **steps}
    if method in ("mavil", "diffmavil") and keys.get("contrast_weight") == 0:
        keys = BOTH_ZERO
    objective = published_objective(method, make(method, **overrides), **keys)
    if passes_that_leave_some(objective, ratios_of(objective)):
        assert objective.find_unused_parameters


@pytest.mark.parametrize("all_heads", [False, True])
@pytest.mark.parametrize(
    ("method", "overrides"),
    [*NETWORKS, *(("cav_mae_sync", {"classifier": one}) for one in CLASSIFIERS)],
    ids=str,
)
def test_a_finetuning_says_whether_a_step_leaves_parameters(method, overrides, all_heads):
    model = make(method, 5, **overrides)
    probs = tuple(0.3 * (head in model.config.heads) for head in ("audio", "video", "audio_video"))
    objective = published_classifier(
        model, task="multiclass", label_smoothing=0.1, modality_probs=probs, all_heads=all_heads
    )
    if passes_that_leave_some(objective, None):
        assert objective.find_unused_parameters
