"""CAV-MAE base: every recorded number of five mask modes, of features and the fine-tuned model.

Weights go through the converter of published files, so its key map is tested with them.
"""

from functools import cache

import pytest
import torch

from pipeline_src.methods.cav_mae.objective import MaskPlan
from pipeline_src.methods.common.contrast import contrastive_loss
from pipeline_src.methods.common.masking import mark_noise
from pipeline_src.methods.common.pos_embed import sincos_2d
from pipeline_src.methods.common.published_keys import published_keys
from tests.objectives import cav_mae_objective
from tests.parity.seeded import assert_close, cases_with
from tests.parity.steps import (
    check_draws,
    check_gradients,
    check_order,
    fill,
    gradient_norms,
    one_hot,
    recorded_masks,
    seeded_noise,
)

CASES = cases_with("sincos/pos_embed_a")
# Mode -> whether targets are normalised, and which axes of the audio grid are marked.
MODES = {
    "norm": (True, ()),
    "nonorm": (False, ()),
    "tf": (True, ("columns", "rows")),
    "time": (True, ("columns",)),
    "freq": (True, ("rows",)),
}
# All of the network is computed: all but one are for test-all.
COSTLY = [
    pytest.param(mode, marks=[] if mode == "norm" else [pytest.mark.exhaustive]) for mode in MODES
]
AXES = {"columns": 64, "rows": 8}
CONTRAST_WEIGHT = 0.01
RATIO = 0.75
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parity,
    pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem),
]


@cache
def pretrained(case):
    return fill("cav_mae_base", case, "cavmae_pretrain")


@cache
def finetuned(case):
    return fill("cav_mae_base", case, "cavmae_ft", case.number("num_classes"))


def plan_of(case, mode):
    structured = recorded_masks(case, mode, "random_masking_structured")
    return MaskPlan(*structured, *recorded_masks(case, mode, "random_masking_unstructured"))


@cache
def run_mode(case, mode):
    """Loss values and every gradient norm by published name."""
    model = pretrained(case)
    model.config = model.config.model_copy(update={"norm_pix_loss": MODES[mode][0]})
    num_clips = case.number("batch_pretrain")
    batch = {"logmel": case.logmel(num_clips), "frames": case.frames(num_clips)}
    values = cav_mae_objective(model, contrast_weight=CONTRAST_WEIGHT)(batch, plan_of(case, mode))
    values["loss"].backward()
    norms = gradient_norms(model, published_keys("cav_mae_base", model))
    model.zero_grad(set_to_none=True)
    return {name: value.item() for name, value in values.items()}, norms


@pytest.mark.parametrize("mode", COSTLY)
def test_losses(case, mode):
    values, _ = run_mode(case, mode)
    ours = {
        "loss": values["loss"],
        "loss_c": CONTRAST_WEIGHT * values["contrast_loss"],
        "c_acc": values["contrast_accuracy"],
        "loss_mae_a": values["audio_reconstruct_loss"],
        "loss_mae_v": values["video_reconstruct_loss"],
    }
    for name, value in ours.items():
        assert_close(value, case.arrays[f"{mode}/{name}"], "loss")


@pytest.mark.parametrize("mode", COSTLY)
def test_gradients(case, mode):
    check_gradients(case, mode, run_mode(case, mode)[1])


@pytest.mark.parametrize("mode", MODES)
def test_draws_follow_from_the_salt(case, mode):
    check_draws(case, mode)


@pytest.mark.parametrize("mode", MODES)
def test_masks_follow_from_the_draws(case, mode):
    """Our marking of time and frequency, on the seeded noise, orders tokens as recorded."""
    draws = iter(case.names(f"{mode}/draw\\d+_(rand|sample)"))
    noise = seeded_noise(case, next(draws))
    marks = {
        axis: one_hot([case.arrays[next(draws)] for _ in range(len(noise))], AXES[axis])
        for axis in MODES[mode][1]
    }
    shaped = noise.view(-1, AXES["rows"], AXES["columns"])
    marked = mark_noise(shaped, columns=marks.get("columns"), rows=marks.get("rows"))
    audio, video, _ = plan_of(case, mode)
    check_order(marked, audio, RATIO)
    check_order(seeded_noise(case, next(draws)), video, RATIO)


@cache
def pooled(case, model):
    with torch.no_grad():
        num_clips = case.number("batch_pretrain")
        return model(case).embed(case.logmel(num_clips), case.frames(num_clips))


def test_features(case):
    features = pooled(case, pretrained)
    assert_close(features["audio"], case.arrays["feat/a_mean"], "feature")
    assert_close(features["video"], case.arrays["feat/v_mean"], "feature")


@pytest.mark.parametrize("direction", ["v2a", "both"])
def test_contrast_of_features(case, direction):
    features = pooled(case, pretrained)
    values = contrastive_loss(
        features["audio"], features["video"], temperature=0.05, direction=direction
    )
    recorded = case.arrays[f"nce/bidirect_{direction == 'both'}"]
    assert_close(values["contrast_loss"], recorded, "loss")


@torch.no_grad()
@pytest.mark.parametrize("single_modality", ["own", "averaged"])
def test_fine_tuned_logits(case, single_modality):
    model = finetuned(case)
    model.config = model.config.model_copy(update={"single_modality": single_modality})
    num_clips = case.number("batch_finetune")
    logits = model.forward_heads(case.logmel(num_clips), case.frames(num_clips))
    prefix = "" if single_modality == "own" else "missing"
    assert_close(logits["audio_video"][:, 0], case.arrays["ft/multimodal"], "feature")
    assert_close(logits["audio"][:, 0], case.arrays[f"ft/{prefix}audioonly"], "feature")
    assert_close(logits["video"][:, 0], case.arrays[f"ft/{prefix}videoonly"], "feature")


@torch.no_grad()
def test_fine_tuned_features(case):
    num_clips = case.number("batch_finetune")
    features = finetuned(case).embed(case.logmel(num_clips), case.frames(num_clips))
    assert_close(features["audio"], case.arrays["ft/feat_a_mean"], "feature")
    assert_close(features["video"], case.arrays["ft/feat_v_mean"], "feature")


def test_position_tables(case):
    audio, video = sincos_2d((8, 64), 768)[0], sincos_2d((14, 14), 768)[0]
    assert_close(audio[:, :8], case.arrays["sincos/pos_embed_a"], "feature")
    assert_close(video[:, :8], case.arrays["sincos/pos_embed_v"], "feature")
    sums = sincos_2d((8, 64), 512)[0].sum(1)
    assert_close(sums, case.arrays["sincos/decoder_pos_embed_a_sum"], "feature")
