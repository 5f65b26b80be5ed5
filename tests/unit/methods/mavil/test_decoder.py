"""Decoders of MAViL and DiffMAViL: what hidden tokens read, what they start from, their loss."""

import pytest
import torch

from pipeline_src.methods.common.patch_embed import normalise_patches
from pipeline_src.methods.mavil.decoder import CrossBlock, Noised
from tests.networks import MAVIL_RATIOS
from tests.objectives import mavil_objective
from tests.unit.methods.mavil.test_network import make_batch, make_masks, make_model

SIDES = ("audio", "video")


def decode(model, noised):
    """Predictions of both modalities for all hidden tokens, from noised patches."""
    batch, masks = make_batch(), make_masks(model)
    fused = model.encode_visible(batch["logmel"], batch["frames"], masks)
    ids = (masks[0].ids_hidden(), masks[1].ids_hidden())
    return model.decode(fused, masks, ids, noised)


def draw_noised(model, step=500):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        Noised(torch.randn(4, mask.num_hidden, dim, generator=generator), torch.full((4,), step))
        for mask, dim in zip(make_masks(model), model.config.patch_dims, strict=True)
    )


def is_changed(mine, other):
    """Which tokens differ: (B, Q)."""
    return (mine != other).any(dim=2)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("kind", "reads_hidden"),
    [
        ("cross", False),
        ("cross_self", True),
        ("joint", True),
    ],
)
def test_hidden_tokens_read_each_other_unless_the_decoder_is_cross(side, kind, reads_hidden):
    model = make_model("diffmavil_tiny", noise_init=0.5, **{f"{side}_decoder": kind}).eval()
    place = SIDES.index(side)
    noised = draw_noised(model)
    before = decode(model, noised)
    noised[place].patches_BQP[1, 2] += 1
    after = decode(model, noised)
    changed = is_changed(before[place], after[place])
    expected = torch.zeros_like(changed)
    expected[1] = reads_hidden
    expected[1, 2] = True
    assert torch.equal(changed, expected)
    assert torch.equal(before[1 - place], after[1 - place])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["cross", "cross_self", "joint"])
def test_predictions_of_the_same_noisy_patches_depend_on_the_step(side, kind):
    model = make_model("diffmavil_tiny", noise_init=0.5, **{f"{side}_decoder": kind}).eval()
    place = SIDES.index(side)
    noised = draw_noised(model)
    before = decode(model, noised)
    noised[place].steps_B[2] = 400
    after = decode(model, noised)
    changed = is_changed(before[place], after[place])
    expected = torch.zeros_like(changed)
    expected[2] = True  # the clip whose step it is, in all its hidden tokens
    assert torch.equal(changed, expected)
    assert torch.equal(before[1 - place], after[1 - place])


def noised_by_hand(model, batch, clip_ids, query, side):
    """sqrt(abar) x_0 + sqrt(1 - abar) noise of the queried patches, clip by clip."""
    patches_BLP = model.patches(batch["logmel"], batch["frames"])[side]
    rows = []
    for clip, ids, step, noise in zip(clip_ids, query.ids_BQ, *query.diffusion, strict=True):
        abar = model.schedule.abar[step].float()
        rows.append(abar.sqrt() * patches_BLP[clip][ids] + (1 - abar).sqrt() * noise)
    return torch.stack(rows)


def test_decoders_receive_the_noised_patches_of_the_hidden_places():
    model = make_model("diffmavil_tiny", noise_init=0.5)
    objective, batch = mavil_objective(model), make_batch()
    ratios = MAVIL_RATIOS._replace(listed=(0.5, 0.75))
    plan = objective.draw(4, ratios, torch.Generator().manual_seed(0))
    assert [chunk.clip_ids.tolist() for chunk in plan.chunks] != [[0, 1], [2, 3]]
    received = {}
    for name, decoder in zip(SIDES, (model.decoder_a, model.decoder_v), strict=True):
        calls = received[name] = []
        decoder.noisy_embed.register_forward_pre_hook(
            lambda _, inputs, calls=calls: calls.append(inputs[0])
        )
    objective(batch, plan)
    for side, name in enumerate(SIDES):
        for chunk, noisy in zip(plan.chunks, received[name], strict=True):
            view = chunk.views[0]
            query, is_masked_BL = view.queries[side], view.masks[side].is_masked_BL
            assert query.ids_BQ.tolist() == [row.nonzero()[:, 0].tolist() for row in is_masked_BL]
            by_hand = noised_by_hand(model, batch, chunk.clip_ids, query, side)
            torch.testing.assert_close(noisy, by_hand)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_diffusion_loss_is_the_error_of_the_predicted_clean_patches(norm_pix_loss):
    """The network predicts x_0, of patches normalised one by one or as they are."""
    model = make_model("diffmavil_tiny", noise_init=0.5, norm_pix_loss=norm_pix_loss).eval()
    objective, batch = mavil_objective(model), make_batch()
    plan = objective.draw(4, MAVIL_RATIOS, torch.Generator().manual_seed(0))
    values = objective(batch, plan)
    (chunk,) = plan.chunks
    masks, queries = chunk.views[0]
    fused = model.encode_visible(batch["logmel"], batch["frames"], masks)
    noised = tuple(
        Noised(noised_by_hand(model, batch, chunk.clip_ids, query, side), query.diffusion.steps_B)
        for side, query in enumerate(queries)
    )
    ids = (queries[0].ids_BQ, queries[1].ids_BQ)
    predictions = model.decode(fused, masks, ids, noised)
    targets = model.patches(batch["logmel"], batch["frames"])
    errors = []
    for pred, target, mask in zip(predictions, targets, masks, strict=True):
        clean = normalise_patches(target)[0] if norm_pix_loss else target
        hidden = clean[mask.is_masked_BL].view_as(pred)
        errors.append((pred - hidden).square().mean())
    torch.testing.assert_close(values["audio_reconstruct_loss"], errors[0])
    torch.testing.assert_close(values["video_reconstruct_loss"], errors[1])
    torch.testing.assert_close(values["reconstruct_loss"], errors[0] + errors[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_cross_attention_computes_in_every_type(dtype):
    """Its core runs in fp32 on a CPU, whose output the projection of another type refused."""
    torch.manual_seed(0)
    block = CrossBlock(16, 2, 4.0, attends_itself=True)
    queries, context = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    exact = block(queries, context)
    typed = block.to(dtype)(queries.to(dtype), context.to(dtype))
    assert typed.dtype == dtype
    torch.testing.assert_close(typed.float(), exact, rtol=0.05, atol=0.05)
