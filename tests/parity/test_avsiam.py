"""AVSiam base as released: every recorded number of both passes and of the fine-tuned model.

Weights go through the converter of published files, so its key map is tested with them.
"""

from functools import cache

import pytest
import torch

from pipeline_src.methods.avsiam.objective import PretrainPlan
from pipeline_src.methods.common.masking import MaskedChunk, mark_noise
from pipeline_src.methods.common.published_keys import published_keys
from tests.objectives import avsiam_objective
from tests.parity.seeded import assert_close, cases_with
from tests.parity.steps import (
    check_draws,
    check_gradients,
    check_order,
    fill,
    gradient_norms,
    one_hot,
    recorded_masks,
    recording,
    seeded_noise,
)

CASES = cases_with("contrast/ca_mean")
RATIOS = tuple(0 + 0.2 * k for k in range(5))  # as the released code computes them
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parity,
    pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem),
]


@cache
def pretrained(case):
    return fill("avsiam_base", case, "avsiam_pretrain")


@cache
def finetuned(case):
    return fill("avsiam_base", case, "avsiam_ft", case.number("num_classes"))


def chunks_of(permutation, masks):
    """The clips of each recorded mask, in the order of the recorded permutation."""
    clip_ids = torch.from_numpy(permutation).split([len(mask.ids_keep) for mask in masks])
    return tuple(
        MaskedChunk(clips, mask.ids_keep) for clips, mask in zip(clip_ids, masks, strict=True)
    )


def contrast_plan(case):
    audio = recorded_masks(case, "contrast", "random_masking_structured")
    video = recorded_masks(case, "contrast", "random_masking_unstructured")
    orders = [case.arrays[f"contrast/draw{i:03d}_perm"] for i in (0, 1)]
    return PretrainPlan(
        chunks_of(orders[0], audio), chunks_of(orders[1], video), audio[0], video[0]
    )


def reconstruct_plan(case):
    audio, video = recorded_masks(case, "mae", "random_masking_unstructured")
    return PretrainPlan((), (), audio, video)


def batch_of(case):
    num_clips = case.number("batch_pretrain")
    return {"logmel": case.logmel(num_clips), "frames": case.frames(num_clips)}


@cache
def run_pass(case, head):
    """Loss values, pooled features, and every gradient norm by published name, of one pass."""
    model = pretrained(case)
    step_pass, plan, encoder = {
        "contrast": ("contrast", contrast_plan, "forward_contrast"),
        "mae": ("reconstruct", reconstruct_plan, "encode_visible"),
    }[head]
    features = []
    with recording(model, encoder, features):
        values = avsiam_objective(model, pack_sequences="always")(
            batch_of(case), plan(case), step_pass
        )
    values["loss"].backward()
    norms = gradient_norms(model, published_keys("avsiam_base", model))
    model.zero_grad(set_to_none=True)
    return {name: value.item() for name, value in values.items()}, features[0], norms


@pytest.mark.parametrize("head", ["contrast", "mae"])
def test_losses(case, head):
    values, _, _ = run_pass(case, head)
    ours = {
        "loss": values["loss"],
        "loss_c": values.get("contrast_loss", 0.0),
        "c_acc": values.get("contrast_accuracy", 0.0),
        "loss_mae_a": values.get("audio_reconstruct_loss", 0.0),
        "loss_mae_v": values.get("video_reconstruct_loss", 0.0),
    }
    for name, value in ours.items():
        assert_close(value, case.arrays[f"{head}/{name}"], "loss")


@pytest.mark.parametrize("head", ["contrast", "mae"])
def test_gradients(case, head):
    _, _, norms = run_pass(case, head)
    check_gradients(case, head, norms)


def test_contrast_features(case):
    audio, video = run_pass(case, "contrast")[1]
    assert_close(audio, case.arrays["contrast/ca_mean"], "feature")
    assert_close(video, case.arrays["contrast/cv_mean"], "feature")


@torch.no_grad()
def test_contrast_features_without_packing(case):
    plan, batch = contrast_plan(case), batch_of(case)
    audio, video = pretrained(case).forward_contrast(
        batch["logmel"], batch["frames"], plan.audio_chunks, plan.video_chunks
    )
    assert_close(audio, case.arrays["contrast/ca_mean"], "feature")
    assert_close(video, case.arrays["contrast/cv_mean"], "feature")


def test_reconstruction_features(case):
    audio, video = run_pass(case, "mae")[1]
    assert_close(audio.mean(1), case.arrays["mae/ca_mean"], "feature")
    assert_close(video.mean(1), case.arrays["mae/cv_mean"], "feature")


@pytest.mark.parametrize("head", ["contrast", "mae"])
def test_draws_follow_from_the_salt(case, head):
    check_draws(case, head)


def test_contrast_masks_follow_from_the_draws(case):
    """Our marking of time and frequency, on the seeded noise, orders tokens as recorded."""
    draws = iter(case.names(r"contrast/draw\d+_(rand|sample)"))
    audio = recorded_masks(case, "contrast", "random_masking_structured")
    video = recorded_masks(case, "contrast", "random_masking_unstructured")
    for audio_mask, video_mask, ratio in zip(audio, video, RATIOS, strict=False):
        noise = seeded_noise(case, next(draws))
        # The time samples of all clips of the chunk, then the frequency samples of all.
        columns, rows = (
            one_hot([case.arrays[next(draws)] for _ in noise], size) for size in (64, 8)
        )
        marked = mark_noise(noise.view(-1, 8, 64), columns=columns, rows=rows)
        check_order(marked, audio_mask, ratio)
        check_order(seeded_noise(case, next(draws)), video_mask, ratio)


@torch.no_grad()
def test_fine_tuned_logits(case):
    num_clips = case.number("batch_finetune")
    model = finetuned(case)
    audio, video = case.logmel(num_clips), case.frames(num_clips, case.number("num_frames"))
    logits = model.forward_heads(audio, video)
    assert_close(logits["audio"][:, 0], case.arrays["ft/audioonly"], "feature")
    assert_close(logits["audio"][:, 0], case.arrays["ft/mm_grad_train_a"], "feature")
    assert_close(logits["video"], case.arrays["ft/videoonly_10f"], "feature")
    assert_close(logits["video"][:, 0], case.arrays["ft/mm_grad_train_v"], "feature")
    assert_close(logits["audio_video"], case.arrays["ft/mm_grad_eval_10f"], "feature")
    assert_close(logits["audio_video"][:, 0], case.arrays["ft/mm_grad_train_av"], "feature")


@torch.no_grad()
def test_retrieval_features(case):
    num_clips = case.number("batch_finetune")
    frames = case.frames(num_clips, case.number("num_frames"))[:, 5:6]
    pooled = finetuned(case).embed(case.logmel(num_clips), frames)
    assert_close(pooled["audio"], case.arrays["ft/retrieval_a_mean"], "feature")
    assert_close(pooled["video"], case.arrays["ft/retrieval_v_mean_frame5"], "feature")
