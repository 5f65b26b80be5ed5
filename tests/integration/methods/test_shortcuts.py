"""Shortcuts: a contrast that learns where clips hold nothing to learn from.

Each contrastive arm of each method is trained on fresh clips whose sides say nothing about each
other. Whatever brings its loss below chance then is a leak: of masks, counts of tokens, places in a
batch. Pairs with a common cause are learnt in the same steps, so that the others could be.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from pipeline_src.methods import MaskRatios
from pipeline_src.methods.common.contrast import sample_negatives, scoped_contrastive_loss
from pipeline_src.methods.factory import create_model
from tests.networks import SMALL
from tests.objectives import published_objective

NUM_CLIPS, NUM_STEPS, JUDGED_STEPS = 20, 140, 40
TOLERANCE = 0.02  # of ln(NUM_CLIPS) = 3.00; the standard error of the judged mean is below a third
LEARNT = 0.3  # that pairs with a common cause are below chance by, at least
LISTED = (0.2, 0.5, 0.8)
NETWORK = SMALL | {"target_length": 48, "img_size": 32, "num_frames": 2}
INTRA_TEMPERATURE = 0.1
SIDES = {"audio": 0, "video": 1}


class Arm(NamedTuple):
    """One contrast: network, recipe, and the kinds that a build tries beside identical clips.

    Args:
        num_compared: clips that each is scored against, itself among them.
        falls: a curriculum's ratios, from .8 to .5, and its adaptive batch, from twice the clips.
        listed: ratios that share the clips.
    """

    method: str
    kinds: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = {}
    network: Mapping[str, Any] = {}
    num_compared: int = NUM_CLIPS
    has_teacher: bool = False
    falls: bool = False
    listed: tuple[float, ...] = ()


MAVIL = {"intra_weight": 1.0, "intra_temperature": INTRA_TEMPERATURE}
DECODED = MAVIL | {"reconstruct_weight": 1.0}  # else nothing of the decoders, or noise, is run
BY_SIDE = ("constant audio", "constant video")
KINDS = ("identical", "shuffled partners", *BY_SIDE)
ARMS = {
    "avsiam": Arm("avsiam", ("shuffled partners", "constant audio"), listed=LISTED),
    "avsiam, unstructured": Arm("avsiam", recipe={"audio_mask": "unstructured"}, listed=LISTED),
    "avsiam, separate encoders": Arm("avsiam", network={"encoders": "separate"}, listed=LISTED),
    "cav_mae": Arm("cav_mae", ("shuffled partners", "constant video")),
    "cav_mae, structured": Arm("cav_mae", recipe={"audio_mask": "time_freq"}),
    "cav_mae_sync": Arm("cav_mae_sync", ("shuffled partners",)),
    "cav_mae_sync, means": Arm("cav_mae_sync", network={"contrast_features": "mean"}),
    "cav_mae_sync, both": Arm("cav_mae_sync", network={"contrast_features": "both"}),
    "mavil": Arm("mavil", ("shuffled partners",), MAVIL),
    "mavil, structured": Arm("mavil", (), {**MAVIL, "audio_mask": "time_freq"}),
    "mavil, several ratios": Arm("mavil", BY_SIDE, MAVIL, listed=LISTED),
    "mavil, curriculum": Arm("mavil", (), MAVIL, falls=True),
    "mavil, fixed negatives": Arm("mavil", (), MAVIL, num_compared=NUM_CLIPS // 2),
    "mavil, full second view": Arm("mavil", (), {**DECODED, "second_view": "full"}),
    "mavil, stage 2": Arm("mavil", (), DECODED, {"predicts": "features"}, has_teacher=True),
    "diffmavil": Arm("diffmavil", (), DECODED),
    "diffmavil, several ratios": Arm("diffmavil", (), DECODED, listed=LISTED),
}
# A contrast that others have under another mask, ratio, view or source of its features. With these
# and with every kind of clips for every arm it is the whole audit: -m exhaustive.
FURTHER = (
    "avsiam, unstructured",
    "cav_mae, structured",
    "cav_mae_sync, means",
    "cav_mae_sync, both",
    "mavil, structured",
    "mavil, full second view",
    "mavil, stage 2",
    "mavil, fixed negatives",
    "diffmavil, several ratios",
)
CASES = [
    pytest.param(name, kind, marks=[pytest.mark.exhaustive] if is_further else [])
    for name, arm in ARMS.items()
    for kind in KINDS
    for is_further in [name in FURTHER or kind not in ("identical", *arm.kinds)]
]


def make_clips(kind: str, num_clips: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Clips of one step: pairs have a common cause, of the other kinds no side tells of the other.

    A permutation is drawn among all of them: one that left no pair in its place would tell which
    partner is wrong.
    """
    cause = torch.randn(num_clips, 4, generator=generator)
    logmel = torch.randn(num_clips, 48, 16, generator=generator)
    frames = torch.randn(num_clips, 2, 3, 32, 32, generator=generator)
    if kind in ("pairs", "shuffled partners"):
        logmel = logmel + 2 * cause.repeat_interleave(4, dim=1)[:, None]  # by the height of a tone
        frames = frames + 2 * cause[:, None, :3, None, None]  # by colour
    if kind == "shuffled partners":
        frames = frames[torch.randperm(num_clips, generator=generator)]
    if kind in ("identical", "constant audio"):
        logmel = logmel[:1].expand_as(logmel)
    if kind in ("identical", "constant video"):
        frames = frames[:1].expand_as(frames)
    return {"logmel": logmel, "frames": frames}


def make_objective(arm: Arm) -> Any:
    torch.manual_seed(0)
    model = create_model(f"{arm.method}_tiny", **{**NETWORK, **arm.network})
    teacher = {"teacher": create_model(f"{arm.method}_tiny", **NETWORK)} if arm.has_teacher else {}
    recipe = {"contrast_weight": 1.0, "temperature": 0.1, "reconstruct_weight": 0.0}
    return published_objective(arm.method, model, **{**recipe, **arm.recipe, **teacher})


@torch.no_grad()
def intra_losses(objective: Any, batch: dict[str, Tensor], plan: Any) -> list[float]:
    """The contrast between two views, of audio and of video."""
    features, _ = objective.model.forward_masked(batch["logmel"], batch["frames"], plan.chunks)
    options = {"temperature": INTRA_TEMPERATURE, "negative_mask_NN": plan.negative_mask_NN}
    return [
        scoped_contrastive_loss(first, second, scope="global", **options)["contrast_loss"].item()
        for first, second in zip(*features, strict=True)
    ]


def train(arm: Arm, kind: str) -> tuple[float, list[float]]:
    """Minimise the losses; contrast, and that between views by side, as means of the last steps."""
    objective = make_objective(arm)
    (step_pass,) = objective.passes
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    clips, contrasts, intras = torch.Generator().manual_seed(1), [], []
    for step in range(NUM_STEPS):
        draw = torch.Generator().manual_seed(step)
        left = (1 - step / NUM_STEPS) * arm.falls
        num_clips, ratio = round(NUM_CLIPS * (1 + left)), 0.5 + 0.3 * left
        negatives = sample_negatives(num_clips, arm.num_compared, draw)
        ratios = MaskRatios(ratio, ratio, arm.listed)
        plan = objective.draw(num_clips, ratios, draw, negative_mask_NN=negatives)
        batch = make_clips(kind, num_clips, clips)
        if step >= NUM_STEPS - JUDGED_STEPS and "intra_weight" in arm.recipe:
            intras.append(intra_losses(objective, batch, plan))
        values = objective(batch, plan, step_pass)
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
        contrasts.append(values["contrast_loss"].item())
    intra = torch.tensor(intras).mean(0).tolist() if intras else []
    return sum(contrasts[-JUDGED_STEPS:]) / JUDGED_STEPS, intra


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_clips_without_a_common_cause_leave_the_loss_at_chance(name, kind):
    arm = ARMS[name]
    contrast, intra = train(arm, kind)
    least = math.log(arm.num_compared) - TOLERANCE
    assert contrast > least
    for side, place in SIDES.items():  # of constant audio, what its two views say of each other
        if intra and kind in ("identical", f"constant {side}"):
            assert intra[place] > least, side


@pytest.mark.slow
@pytest.mark.parametrize("name", ["avsiam", "mavil"])
def test_pairs_with_a_common_cause_are_learnt(name):
    contrast, intra = train(ARMS[name], "pairs")
    assert contrast < math.log(NUM_CLIPS) - LEARNT
    assert all(loss < math.log(NUM_CLIPS) - LEARNT for loss in intra)
