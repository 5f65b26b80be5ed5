"""Shortcuts: a contrast that learns where clips hold nothing to learn from.

Each contrastive arm of each method is trained on fresh clips whose sides say nothing about each
other. Whatever brings its loss below chance then is a leak: of masks, counts of tokens, places in a
batch.
"""

import math

import pytest
import torch

from pipeline_src.methods import MaskRatios, find_method
from pipeline_src.methods.factory import create_model
from tests.networks import SMALL

NUM_CLIPS, NUM_STEPS, JUDGED_STEPS = 20, 160, 40
TOLERANCE = 0.02  # of ln(NUM_CLIPS) = 3.00; the standard error of the judged mean is below a third
LISTED = (0.2, 0.5, 0.8)
RATIOS = MaskRatios(0.5, 0.5, LISTED)
NETWORK = SMALL | {"target_length": 48, "img_size": 32, "num_frames": 2}
MAVIL = {"intra_weight": 1.0, "intra_temperature": 0.1}
# Method, keys of its recipe.
ARMS = {
    "avsiam": ("avsiam", {}),
    "avsiam, unstructured": ("avsiam", {"audio_mask": "unstructured"}),
    "cav_mae": ("cav_mae", {}),
    "cav_mae_sync": ("cav_mae_sync", {}),
    "mavil": ("mavil", MAVIL),
    "mavil, several ratios": ("mavil", {**MAVIL, "mask_ratios": LISTED}),
    "diffmavil": ("diffmavil", MAVIL),
}
LOSSES = ("contrast_loss", "intra_loss")
CLIPS = ("identical", "shuffled partners", "constant audio", "constant video")


def make_clips(kind, generator):
    """Clips of one step, of which no audio says anything about its video."""
    logmel = torch.randn(NUM_CLIPS, 48, 16, generator=generator)
    frames = torch.randn(NUM_CLIPS, 2, 3, 32, 32, generator=generator)
    if kind in ("identical", "constant audio"):
        logmel = logmel[:1].expand_as(logmel)
    if kind in ("identical", "constant video"):
        frames = frames[:1].expand_as(frames)
    return {"logmel": logmel, "frames": frames}


def train(arm, kind):
    """Minimise the contrasts alone; the mean of each over the last steps."""
    torch.manual_seed(0)
    method, recipe = ARMS[arm]
    model = create_model(f"{method}_tiny", **NETWORK)
    objective = find_method(method).load_objective()(
        model, contrast_weight=1.0, temperature=0.1, reconstruct_weight=0.0, **recipe
    )
    (step_pass,) = objective.passes
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    clips, rows = torch.Generator().manual_seed(1), []
    for step in range(NUM_STEPS):
        plan = objective.draw(NUM_CLIPS, RATIOS, torch.Generator().manual_seed(step))
        values = objective(make_clips(kind, clips), plan, step_pass)
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
        rows.append([values[key].item() if key in values else math.nan for key in LOSSES])
    contrast, intra = torch.tensor(rows[-JUDGED_STEPS:]).mean(0).tolist()
    return contrast, intra


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize("arm", ARMS)
def test_clips_without_a_common_cause_leave_the_loss_at_chance(arm, kind):
    contrast, intra = train(arm, kind)
    assert contrast > math.log(NUM_CLIPS) - TOLERANCE
    if kind == "identical" and not math.isnan(intra):
        assert intra > math.log(NUM_CLIPS) - TOLERANCE
