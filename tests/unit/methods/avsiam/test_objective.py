"""Losses: known values, chunked features, gradients, gathering over ranks, classification."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from pipeline_src.methods import MaskRatios
from pipeline_src.methods.common.contrast import contrastive_loss, feature_spread, gather_clips
from pipeline_src.methods.common.masking import mask_from_restore
from pipeline_src.methods.common.reconstruction import masked_mse
from pipeline_src.methods.factory import create_model
from tests import networks
from tests.objectives import avsiam_objective, published_classifier

SMALL = networks.SMALL | {"patch_size": 4, "target_length": 32, "num_frames": 2}


def make_model(num_classes=0):
    torch.manual_seed(0)
    return create_model("avsiam_tiny", num_classes=num_classes, **SMALL)


def make_batch(num_clips=7, num_classes=5):
    generator = torch.Generator().manual_seed(0)
    return {
        "logmel": torch.randn(num_clips, 32, 16, generator=generator),
        "frames": torch.randn(num_clips, 2, 3, 16, 16, generator=generator),
        "targets": F.one_hot(torch.arange(num_clips) % num_classes, num_classes).float(),
    }


def draw(objective, num_clips=7, seed=0, ratios=networks.RATIOS):
    return objective.draw(num_clips, ratios, torch.Generator().manual_seed(seed))


def test_contrastive_loss_is_ln_n_for_equal_features_and_small_for_pairs():
    same = contrastive_loss(torch.ones(6, 4), torch.ones(6, 4), temperature=0.1)
    assert same["contrast_loss"].item() == pytest.approx(math.log(6), rel=1e-5)
    assert same["audio_spread"].item() == pytest.approx(0, abs=1e-6)
    pairs = contrastive_loss(torch.eye(6), torch.eye(6), temperature=0.05)
    assert pairs["contrast_loss"].item() < 1e-3
    assert pairs["contrast_accuracy"] == 1


def test_directions_are_rows_and_columns():
    generator = torch.Generator().manual_seed(0)
    audio, video = torch.randn(2, 5, 8, generator=generator)
    a2v = contrastive_loss(audio, video, temperature=0.2, direction="a2v")["contrast_loss"]
    v2a = contrastive_loss(video, audio, temperature=0.2, direction="a2v")["contrast_loss"]
    both = contrastive_loss(audio, video, temperature=0.2)["contrast_loss"]
    torch.testing.assert_close(both, (a2v + v2a) / 2)


def test_feature_spread_of_a_full_sphere():
    unit = F.normalize(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    assert feature_spread(unit).item() == pytest.approx(1 / 4, rel=0.02)


def test_masked_mse_counts_hidden_patches_only():
    pred, target = torch.zeros(1, 3, 2), torch.tensor([[[1.0, 1.0], [3.0, 3.0], [9.0, 9.0]]])
    mask = mask_from_restore(torch.tensor([[1, 2, 0]]), 1)  # the third token is kept
    assert masked_mse(pred, target, mask).item() == pytest.approx((1 + 9) / 2)
    with pytest.raises(ValueError, match="no token is hidden"):
        masked_mse(pred, target, mask_from_restore(torch.tensor([[1, 2, 0]]), 3))


def test_norm_pix_makes_the_target_blind_to_level_and_contrast():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn(2, 1, 4, 6, generator=generator)
    hidden = mask_from_restore(torch.arange(4)[None], 0)
    plain = masked_mse(pred, target, hidden, norm_pix=True)
    torch.testing.assert_close(plain, masked_mse(pred, 5 * target + 3, hidden, norm_pix=True))


def test_the_norm_pix_flag_reaches_the_loss():
    torch.manual_seed(0)
    model = create_model("avsiam_tiny", **SMALL, norm_pix_loss=True)
    objective = avsiam_objective(model, contrast_weight=0)
    plain = avsiam_objective(make_model(), contrast_weight=0)
    plain.load_state_dict(objective.state_dict())
    losses = [
        one(make_batch(), draw(one), "reconstruct")["reconstruct_loss"]
        for one in (objective, plain)
    ]
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.parametrize("num_clips", [3, 7])
def test_chunked_features_equal_each_clip_alone(num_clips):
    objective = avsiam_objective(make_model())
    batch, plan = make_batch(num_clips), draw(objective, num_clips)
    audio, video = objective.model.forward_contrast(
        batch["logmel"], batch["frames"], plan.audio_chunks, plan.video_chunks
    )
    for features, encode, inputs, chunks in (
        (audio, objective.model.encode_audio, batch["logmel"], plan.audio_chunks),
        (video, objective.model.encode_video, batch["frames"], plan.video_chunks),
    ):
        for chunk in chunks:
            for clip, ids_keep in zip(*chunk, strict=True):
                alone = encode(inputs[clip][None], ids_keep[None]).mean(1)[0]
                torch.testing.assert_close(features[clip], alone, rtol=1e-5, atol=1e-5)


def test_audio_and_video_chunks_differ_and_have_the_ratios():
    plan = draw(avsiam_objective(make_model()), 8, ratios=MaskRatios(0.75, 0.75, (0.0, 0.5)))
    assert [chunk.ids_keep.shape for chunk in plan.audio_chunks] == [(4, 32), (4, 16)]
    assert [chunk.ids_keep.shape for chunk in plan.video_chunks] == [(4, 32), (4, 16)]
    clips = [chunk.clip_ids.tolist() for chunk in plan.audio_chunks + plan.video_chunks]
    assert clips[0] != clips[2]
    assert plan.video_mask.is_masked_BL.float().mean() == 0.75


def test_a_plan_is_the_generators_alone():
    objective = avsiam_objective(make_model())
    first, second, other = (draw(objective, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.audio_mask.ids_keep, second.audio_mask.ids_keep)
    assert not torch.equal(first.video_mask.ids_keep, other.video_mask.ids_keep)


@pytest.mark.parametrize("grad_checkpointing", [False, True])
def test_joint_pretraining_reaches_every_parameter(grad_checkpointing):
    objective = avsiam_objective(make_model(), joint_step=True)
    objective.model.set_grad_checkpointing(grad_checkpointing)
    assert objective.passes == ("joint",)
    assert not objective.find_unused_parameters
    values = objective(make_batch(), draw(objective), "joint")
    values["loss"].backward()
    assert [n for n, p in objective.named_parameters() if p.grad is None] == []
    total = values["contrast_loss"] + values["reconstruct_loss"]
    torch.testing.assert_close(values["loss"], total)


def test_separate_passes_add_up_to_the_joint_gradient():
    objective = avsiam_objective(make_model(), contrast_weight=0.5)
    assert objective.passes == ("contrast", "reconstruct")
    assert objective.find_unused_parameters
    batch, plan = make_batch(), draw(objective)
    for step_pass in objective.passes:
        objective(batch, plan, step_pass)["loss"].backward()
    separate = {n: p.grad.clone() for n, p in objective.named_parameters()}
    objective.zero_grad()
    objective(batch, plan, "joint")["loss"].backward()
    for name, parameter in objective.named_parameters():
        torch.testing.assert_close(parameter.grad, separate[name], rtol=1e-4, atol=1e-6)


def test_contrast_pass_leaves_only_fusion_and_decoder_without_gradient():
    objective = avsiam_objective(make_model())
    objective(make_batch(), draw(objective), "contrast")["loss"].backward()
    without = {
        objective.model.layer_id(name)
        for name, p in objective.model.named_parameters()
        if p.grad is None
    }
    assert without == {"fusion", "decoder"}


def test_a_loss_of_weight_zero_is_not_computed():
    objective = avsiam_objective(make_model(), contrast_weight=0)
    assert objective.passes == ("reconstruct",)
    assert "contrast_loss" not in objective(make_batch(), draw(objective), "reconstruct")


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_all_heads_reach_every_parameter(task):
    objective = published_classifier(make_model(5), task=task, all_heads=True)
    assert not objective.find_unused_parameters
    values = objective(make_batch(), draw(objective), "classify")
    values["loss"].backward()
    assert [n for n, p in objective.named_parameters() if p.grad is None] == []
    weighted = sum(
        weight * values[f"{head}_loss"]
        for head, weight in zip(("audio", "video", "audio_video"), (0.25, 0.25, 0.5), strict=True)
    )
    torch.testing.assert_close(values["loss"], weighted)


def test_one_head_is_drawn_by_its_probability():
    objective = published_classifier(
        make_model(5), task="multiclass", modality_probs=(0.5, 0.0, 0.5)
    )
    generator = torch.Generator().manual_seed(0)
    heads = [next(iter(objective.draw(7, None, generator).weights)) for _ in range(400)]
    assert set(heads) == {"audio", "audio_video"}
    assert abs(heads.count("audio") - 200) < 40


def test_label_smoothing_mixes_in_the_uniform_distribution():
    objective = published_classifier(make_model(5), task="multiclass", label_smoothing=0.2)
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 2, 4])
    expected = F.cross_entropy(logits, target, label_smoothing=0.2)
    torch.testing.assert_close(objective._loss(logits, F.one_hot(target, 5).float()), expected)


def _gather_on_one_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    features = torch.load(f"{folder}/features.pt", weights_only=True)
    own = features[:, rank * 3 : rank * 3 + 3].clone().requires_grad_()
    contrastive_loss(gather_clips(own[0]), gather_clips(own[1]), temperature=0.2)[
        "contrast_loss"
    ].backward()
    torch.save(own.grad / 2, f"{folder}/grad{rank}.pt")  # DDP's mean over two ranks
    dist.destroy_process_group()


@pytest.mark.slow
def test_gathered_gradient_is_that_of_the_global_batch(tmp_path):
    features = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    torch.save(features, tmp_path / "features.pt")
    mp.spawn(_gather_on_one_rank, args=(tmp_path,), nprocs=2)
    features.requires_grad_()
    contrastive_loss(*features, temperature=0.2)["contrast_loss"].backward()
    parts = [torch.load(tmp_path / f"grad{rank}.pt", weights_only=True) for rank in (0, 1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), features.grad)


def test_similarities_are_not_rounded_by_autocast():
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(1, 64, generator=generator)
    audio, video = (centre + 0.05 * torch.randn(20, 64, generator=generator) for _ in range(2))
    exact = contrastive_loss(audio, video, temperature=0.05)["contrast_loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = contrastive_loss(audio, video, temperature=0.05)["contrast_loss"]
    assert torch.equal(exact, inside)
