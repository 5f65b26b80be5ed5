"""A step's mask ratios and contrast negatives: what methods make of them, on one rank and two."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from pipeline_src.methods import MaskRatios
from pipeline_src.methods.common.contrast import contrastive_loss, gather_clips, sample_negatives
from pipeline_src.methods.factory import create_model
from pipeline_src.methods.mavil.objective import MAViLPlan
from tests import networks
from tests.networks import ratios_of
from tests.objectives import published_objective

SMALL = networks.SMALL | {"patch_size": 4, "target_length": 32, "num_frames": 2}
NUM_CLIPS, TOKENS = 6, 32  # of either modality
METHODS = ("avsiam", "cav_mae", "diffmavil", "mavil")
VIEWED = ("mavil", "diffmavil")  # these contrast two views of a clip too
CPU = torch.device("cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_objective(method):
    torch.manual_seed(0)
    patches = {"tubelet_size": 1} if method in VIEWED else {}
    return published_objective(method, create_model(f"{method}_tiny", **SMALL, **patches))


def masks_of(plan):
    """The masks of audio and of video that are reconstructed."""
    if isinstance(plan, MAViLPlan):
        return plan.chunks[0].views[0].masks
    return plan.audio_mask, plan.video_mask


def make_batch(num_clips=NUM_CLIPS):
    return {
        "logmel": torch.randn(num_clips, 32, 16, generator=seeded()),
        "frames": torch.randn(num_clips, 2, 3, 16, 16, generator=seeded(1)),
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_method_masks_with_the_ratios_of_the_step(method):
    ratios = MaskRatios(0.75, 0.5, (0.0, 0.25) if method == "avsiam" else ())
    plan = make_objective(method).draw(NUM_CLIPS, ratios, seeded())
    assert [mask.num_hidden for mask in masks_of(plan)] == [0.75 * TOKENS, 0.5 * TOKENS]
    if method == "avsiam":
        for chunks in (plan.audio_chunks, plan.video_chunks):
            assert [chunk.ids_keep.shape for chunk in chunks] == [(3, 32), (3, 24)]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_contrasts_with_the_negatives_of_the_step(method):
    objective = make_objective(method)
    alone = torch.eye(NUM_CLIPS, dtype=torch.bool)
    plan = objective.draw(NUM_CLIPS, ratios_of(objective), seeded(), "cpu", alone)
    values = objective(make_batch(), plan, objective.passes[0])
    assert values["contrast_loss"].item() == 0  # nothing to be distinguished from
    assert values["contrast_accuracy"] == 1
    assert ("intra_loss" in values) == (method in VIEWED)
    assert values.get("intra_loss", 0) == 0


@pytest.mark.parametrize("method", VIEWED)
def test_views_are_contrasted_with_the_same_negatives(method):
    objective, batch = make_objective(method), make_batch()
    negatives = sample_negatives(NUM_CLIPS, 3, seeded())
    plan = objective.draw(NUM_CLIPS, ratios_of(objective), seeded(), "cpu", negatives)
    features = objective.model.forward_masked(batch["logmel"], batch["frames"], plan.chunks)[0]
    losses = []
    for first, second in zip(*features, strict=True):
        scores = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T
        for view in (scores, scores.T):
            losses += [
                torch.logsumexp(row[chosen], dim=0) - row[clip]
                for clip, (row, chosen) in enumerate(zip(view, negatives, strict=True))
            ]
    intra = objective(batch, plan)["intra_loss"]
    torch.testing.assert_close(intra, torch.stack(losses).mean())


@pytest.mark.parametrize("num_clips", [8, 16, 48, 128])
@pytest.mark.parametrize("direction", ["both", "a2v", "v2a"])
def test_the_loss_at_chance_is_that_of_the_reference_batch(num_clips, direction):
    negatives = sample_negatives(num_clips, 8, seeded())
    features = torch.ones(num_clips, 4)
    values = contrastive_loss(
        features, features, temperature=0.1, direction=direction, negative_mask_NN=negatives
    )
    assert values["contrast_loss"].item() == pytest.approx(math.log(8), rel=1e-6)
    everyone = contrastive_loss(features, features, temperature=0.1, direction=direction)
    assert everyone["contrast_loss"].item() == pytest.approx(math.log(num_clips), rel=1e-6)


def test_a_clip_has_itself_and_random_others():
    draws = [sample_negatives(20, 5, seeded(seed)) for seed in range(400)]
    assert all((draw.sum(1) == 5).all() for draw in draws)
    assert all(draw.diagonal().all() for draw in draws)
    share = torch.stack(draws).float().mean(0)
    others = share[~torch.eye(20, dtype=torch.bool)]
    assert others.mean().item() == pytest.approx(4 / 19)
    assert (others - 4 / 19).abs().max() < 0.1
    assert not torch.equal(draws[0], draws[1])


def test_everyone_is_a_candidate_in_a_batch_of_the_reference_size():
    assert sample_negatives(8, 8, seeded()) is None


def _contrast_on_one_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    features = torch.load(f"{folder}/features.pt", weights_only=True)
    own = features[:, rank * 4 : rank * 4 + 4].clone().requires_grad_()
    negatives = sample_negatives(8, 3, seeded())
    values = contrastive_loss(
        gather_clips(own[0]), gather_clips(own[1]), temperature=0.2, negative_mask_NN=negatives
    )
    values["contrast_loss"].backward()
    torch.save(own.grad / 2, f"{folder}/grad{rank}.pt")  # DDP's mean over two ranks
    handed_over = torch.ones(8, 4)
    gather_clips(own[0]).backward(handed_over)
    assert handed_over.eq(1).all()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_with_fixed_negatives_have_the_gradient_of_one_process(tmp_path):
    features = torch.randn(2, 8, 4, generator=seeded())
    torch.save(features, tmp_path / "features.pt")
    mp.spawn(_contrast_on_one_rank, args=(tmp_path,), nprocs=2)
    features.requires_grad_()
    negatives = sample_negatives(8, 3, seeded())
    values = contrastive_loss(*features, temperature=0.2, negative_mask_NN=negatives)
    values["contrast_loss"].backward()
    parts = [torch.load(tmp_path / f"grad{rank}.pt", weights_only=True) for rank in (0, 1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), features.grad)
