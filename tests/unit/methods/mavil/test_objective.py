"""MAViL's and DiffMAViL's pre-training: masked views, losses, what may not change."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from pipeline_src.methods import MaskRatios
from pipeline_src.methods.common.contrast import contrastive_loss
from pipeline_src.methods.common.masking import mask_from_noise, num_kept
from pipeline_src.methods.common.patch_embed import normalise_patches
from tests.networks import MAVIL_RATIOS
from tests.objectives import mavil_objective
from tests.unit.methods.mavil.test_network import NAMES, make_batch, make_model, without_gradient

KINDS = ("joint", "cross", "cross_self")


def draw(objective, num_clips=4, seed=0, ratio=0.8, listed=()):
    ratios = MaskRatios(ratio, ratio, listed)
    return objective.draw(num_clips, ratios, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("ratio", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_masks_are_exact_and_independent_in_both_views(ratio):
    objective = mavil_objective(make_model(target_length=80, img_size=32))
    model = objective.model
    (chunk,) = draw(objective, 16, ratio=ratio).chunks
    for view in chunk.views:
        counts = (model.num_audio_tokens, model.num_video_tokens)
        for mask, num_tokens in zip(view.masks, counts, strict=True):
            assert mask.ids_keep.shape == (16, num_kept(num_tokens, ratio))
            assert (mask.is_masked_BL.sum(1) == num_tokens - num_kept(num_tokens, ratio)).all()
    first, second = chunk.views
    assert not torch.equal(first.masks[0].is_masked_BL, second.masks[0].is_masked_BL)
    assert not torch.equal(first.masks[1].is_masked_BL, second.masks[1].is_masked_BL)
    assert first.queries is not None
    assert second.queries is None


def test_structured_masks_hide_whole_columns_of_time():
    objective = mavil_objective(make_model(target_length=80), audio_mask="time")
    (chunk,) = draw(objective, 3, ratio=0.5).chunks
    hidden = chunk.views[0].masks[0].is_masked_BL.view(3, 10, 2)  # time, frequency
    assert (hidden.all(2).sum(1) == 5).all()


@pytest.mark.parametrize("second_view", ["encoders", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name, second_view):
    objective = mavil_objective(make_model(name), second_view=second_view)
    values = objective(make_batch(), draw(objective))
    values["loss"].backward()
    assert without_gradient(objective) == []
    assert not objective.find_unused_parameters
    expected = values["reconstruct_loss"]
    expected = expected + 0.1 * values["contrast_loss"] + 0.01 * values["intra_loss"]
    torch.testing.assert_close(values["loss"], expected)


@pytest.mark.parametrize("diffusion", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_decoder_trains(kind, diffusion):
    kinds = {"audio_decoder": kind, "video_decoder": kind, "diffusion": diffusion}
    context = "own" if kind == "joint" else "both"
    objective = mavil_objective(make_model("diffmavil_tiny", **kinds, context=context))
    objective(make_batch(), draw(objective))["loss"].backward()
    assert without_gradient(objective) == []


@pytest.mark.parametrize(
    ("weights", "missing"),
    [
        ({"intra_weight": 0.0}, set()),
        ({"reconstruct_weight": 0.0}, {"fusion", "decoder_a", "decoder_v"}),
        ({"contrast_weight": 0.0, "intra_weight": 0.0}, {"proj_a", "proj_v"}),
    ],
)
def test_losses_of_weight_0_are_not_computed(weights, missing):
    objective = mavil_objective(make_model(), **weights)
    values = objective(make_batch(), draw(objective))
    values["loss"].backward()
    assert {name.split(".")[1] for name in without_gradient(objective)} == missing
    assert objective.find_unused_parameters == bool(missing)
    names = {"intra_weight": "intra_loss", "reconstruct_weight": "reconstruct_loss"}
    assert not {names[key] for key in weights if key in names} & set(values)


def test_losses_are_those_of_the_formulas():
    objective = mavil_objective(make_model().eval())
    model, batch, plan = objective.model, make_batch(), draw(objective)
    (view, second) = plan.chunks[0].views
    values = objective(batch, plan)

    def features(masks):
        audio = model.encode_audio(batch["logmel"], masks[0].ids_keep).mean(1)
        video = model.encode_video(batch["frames"], masks[1].ids_keep).mean(1)
        return F.normalize(model.proj_a(audio), dim=1), F.normalize(model.proj_v(video), dim=1)

    def info_nce(a, b, temperature):
        scores, target = a @ b.T / temperature, torch.arange(4)
        return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2

    (audio, video), (audio_2, video_2) = features(view.masks), features(second.masks)
    torch.testing.assert_close(values["contrast_loss"], info_nce(audio, video, 0.1))
    intra = (info_nce(audio, audio_2, 1.0) + info_nce(video, video_2, 1.0)) / 2
    torch.testing.assert_close(values["intra_loss"], intra)
    predictions = model.forward_reconstruct(batch["logmel"], batch["frames"], *view.masks)
    targets = model.patches(batch["logmel"], batch["frames"])
    for name, pred, target, mask in zip(
        ("audio", "video"), predictions, targets, view.masks, strict=True
    ):
        error = (pred - normalise_patches(target)[0]).square().mean(2)[mask.is_masked_BL].mean()
        torch.testing.assert_close(values[f"{name}_reconstruct_loss"], error)


def test_joint_decoders_without_noise_are_mavil():
    same = {"audio_decoder": "joint", "video_decoder": "joint", "diffusion": False}
    values = []
    for model in (make_model(), make_model("diffmavil_tiny", **same)):
        objective = mavil_objective(model)
        result = objective(make_batch(), draw(objective))
        result["loss"].backward()
        values.append([*result.values(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(*pair) for pair in zip(*values, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_diffusion_starts_as_mavil(kind):
    kinds = {"audio_decoder": kind, "video_decoder": kind}
    mavil = make_model(**kinds)
    diffusion = make_model("diffmavil_tiny", **kinds)
    same = {key: value for key, value in mavil.state_dict().items() if "mask_token" not in key}
    diffusion.load_state_dict(same, strict=False)
    for name in ("decoder_a", "decoder_v"):
        token, bias = getattr(mavil, name).mask_token, getattr(diffusion, name).noisy_embed.bias
        assert bias.std().item() == pytest.approx(0.02, rel=0.9)
        bias.data.copy_(token.data.flatten())
    expected, found = (
        objective(make_batch(), draw(objective))
        for objective in (mavil_objective(mavil), mavil_objective(diffusion))
    )
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize("std", [0.0, 0.02])
def test_the_start_of_the_noise_embedding_is_a_key(std):
    decoder = make_model("diffmavil_tiny", decoder_embed_dim=64, noise_init=std).decoder_v
    for layer in (decoder.noisy_embed, decoder.step_embed[2]):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.1)


def test_masks_do_not_change_when_decoders_do():
    plans = []
    for name, overrides, recipe in (
        ("mavil_tiny", {}, {}),
        ("diffmavil_tiny", {}, {"decode_fraction": 0.5}),
        ("diffmavil_tiny", {"audio_decoder": "cross"}, {"shared_step": True}),
    ):
        generator = torch.Generator().manual_seed(3)
        objective = mavil_objective(make_model(name, **overrides), **recipe)
        plans.append([objective.draw(4, MAVIL_RATIOS, generator) for _ in range(2)])
    for other in plans[1:]:
        for mine, theirs in zip(plans[0], other, strict=True):
            for view, same in zip(mine.chunks[0].views, theirs.chunks[0].views, strict=True):
                for mask, twin in zip(view.masks, same.masks, strict=True):
                    assert torch.equal(mask.ids_restore, twin.ids_restore)


def test_the_encoder_never_sees_noise_or_step():
    objective = mavil_objective(make_model("diffmavil_tiny", noise_init=0.5).eval())
    ((chunk,), _), batch = draw(objective), make_batch()
    view = chunk.views[0]
    outputs = []
    for step, scale in ((1, 1.0), (1000, 7.0)):
        queries = tuple(
            query._replace(
                diffusion=query.diffusion._replace(
                    steps_B=torch.full_like(query.diffusion.steps_B, step),
                    noise_BQP=scale * query.diffusion.noise_BQP,
                )
            )
            for query in view.queries
        )
        changed = chunk._replace(views=(view._replace(queries=queries),))
        outputs.append(objective.model.forward_masked(batch["logmel"], batch["frames"], [changed]))
    (first, second) = outputs
    assert all(
        torch.equal(*pair) for pair in zip(first.features[0], second.features[0], strict=True)
    )
    for mine, other in zip(first.predictions[0], second.predictions[0], strict=True):
        assert not torch.allclose(mine, other)


def test_steps_are_shared_only_on_demand():
    for shared in (False, True):
        objective = mavil_objective(make_model("diffmavil_tiny"), shared_step=shared)
        audio, video = (q.diffusion for q in draw(objective, 32).chunks[0].views[0].queries)
        assert torch.equal(audio.steps_B, video.steps_B) == shared
        assert audio.steps_B.min() >= 1
        assert audio.steps_B.max() <= 1000
        assert not torch.equal(audio.noise_BQP[0], audio.noise_BQP[1])


@pytest.mark.parametrize("diffusion", [False, True])
def test_partial_decoding_asks_cross_decoders_for_a_part(diffusion):
    model = make_model("diffmavil_tiny", diffusion=diffusion, img_size=32)
    objective = mavil_objective(model, decode_fraction=0.25)
    (chunk,) = draw(objective).chunks
    view = chunk.views[0]
    audio, video = view.queries
    assert torch.equal(audio.ids_BQ, view.masks[0].ids_hidden())
    assert video.ids_BQ.shape[1] == round(0.25 * view.masks[1].num_hidden)
    assert view.masks[1].is_masked_BL.gather(1, video.ids_BQ).all()
    assert len({tuple(row) for row in video.ids_BQ.tolist()}) > 1
    batch = {**make_batch(), "frames": torch.randn(4, 4, 3, 32, 32)}
    objective(batch, draw(objective))["loss"].backward()
    assert without_gradient(objective) == []


def test_several_mask_ratios_share_a_batch():
    objective, listed = mavil_objective(make_model(target_length=80)), (0.5, 0.75, 0.9)
    plan, batch = (
        draw(objective, 7, listed=listed),
        {**make_batch(7), "logmel": torch.randn(7, 80, 16)},
    )
    assert [len(chunk.clip_ids) for chunk in plan.chunks] == [3, 2, 2]
    counts = (objective.model.num_audio_tokens, objective.model.num_video_tokens)
    for place, (side, count) in product(range(2), enumerate(counts)):
        kept = {chunk.views[place].masks[side].ids_keep.shape[1] for chunk in plan.chunks}
        assert kept == {num_kept(count, ratio) for ratio in listed}
    values = objective(batch, plan)
    values["loss"].backward()
    assert without_gradient(objective) == []
    features = objective.model.forward_masked(batch["logmel"], batch["frames"], plan.chunks)[0]
    for chunk in plan.chunks:
        for place, clip in enumerate(chunk.clip_ids.tolist()):
            mask = chunk.views[0].masks[0]
            tokens = objective.model.encode_audio(
                batch["logmel"][clip][None], mask.ids_keep[place][None]
            )
            alone = objective.model.proj_a(tokens.mean(1))[0]
            torch.testing.assert_close(features[0][0][clip], alone, rtol=1e-5, atol=1e-5)


def test_who_shares_a_ratio_tells_a_contrast_nothing():
    """The best that features can say of token counts alone leaves every contrast at chance."""
    ratios, num_clips, losses = (0.1, 0.3, 0.5, 0.7, 0.9), 20, []
    objective = mavil_objective(make_model(target_length=80, img_size=32))
    for seed in range(120):
        counts = torch.empty(4, num_clips, dtype=torch.long)  # audio, video, their second views
        for clip_ids, views in draw(objective, num_clips, seed, listed=ratios).chunks:
            masks = [mask for view in views for mask in view.masks]
            for row, mask in zip(counts, masks, strict=True):
                row[clip_ids] = sorted(
                    {num_kept(mask.is_masked_BL.shape[1], ratio) for ratio in ratios}
                ).index(mask.ids_keep.shape[1])
        for first, second in ((0, 1), (0, 2), (1, 3)):
            features = F.one_hot(counts[[first, second]], len(ratios)).float()
            loss = contrastive_loss(*features, temperature=1.0)["contrast_loss"]
            losses.append((loss, (counts[first] == counts[second]).float().mean()))
    loss, same = torch.tensor(losses).mean(0)
    assert loss >= math.log(num_clips)
    assert same.item() == pytest.approx(1 / len(ratios), abs=0.05)


def test_grad_checkpointing_changes_no_gradient():
    gradients = []
    for enable in (False, True):
        objective = mavil_objective(make_model())
        objective.model.set_grad_checkpointing(enable)
        objective(make_batch(), draw(objective))["loss"].backward()
        gradients.append(objective.model.audio.patch_embed.proj.weight.grad)
    torch.testing.assert_close(*gradients)


def test_chance_is_the_log_of_the_batch():
    objective = mavil_objective(make_model())
    same = {name: value[:1].expand_as(value) for name, value in make_batch(6).items()}
    full = [mask_from_noise(torch.arange(n)[None].expand(6, n).float(), 0.5) for n in (6, 8)]
    plan = draw(objective, 6)
    (chunk,) = plan.chunks
    views = tuple(view._replace(masks=tuple(full), queries=None) for view in chunk.views)
    features = objective.model.forward_masked(
        same["logmel"], same["frames"], [chunk._replace(views=views)]
    ).features
    assert objective._intra(features, None).item() == pytest.approx(math.log(6), rel=1e-5)


def test_a_second_stage_follows_a_frozen_teacher():
    teacher, student = make_model().eval(), make_model(predicts="features", depth=3)
    with pytest.raises(ValueError, match="both features and a teacher"):
        mavil_objective(student)
    with pytest.raises(ValueError, match="both features and a teacher"):
        mavil_objective(make_model(), teacher=teacher)
    objective, batch = mavil_objective(student, teacher=teacher.requires_grad_(False)), make_batch()
    plan = draw(objective)
    values = objective(batch, plan)
    values["loss"].backward()
    assert without_gradient(objective) == []
    assert not any(name.startswith("_teacher") for name in objective.state_dict())
    whole = teacher.encode_audio(batch["logmel"]), teacher.encode_video(batch["frames"])
    targets = teacher.fuse_complete(batch["logmel"], batch["frames"])
    assert [x.shape for x in targets] == [x.shape for x in whole]
    (chunk,) = plan.chunks
    view = chunk.views[0]
    (predicted,) = student.forward_masked(batch["logmel"], batch["frames"], plan.chunks).predictions
    hidden = view.masks[1].is_masked_BL
    cosine = F.cosine_similarity(predicted[1].flatten(0, 1), targets[1][hidden], dim=1)
    torch.testing.assert_close(values["video_reconstruct_loss"], 2 - 2 * cosine.mean())
