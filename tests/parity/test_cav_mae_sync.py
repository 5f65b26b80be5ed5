"""CAV-MAE Sync base: every recorded number of four passes, of whole clips and of classification.

Weights go through the converter of published files, so its key map is tested with them. Not met,
since ours differ on purpose: the evaluation branch of the contrast, whose negatives keep a score of
0, ratios drawn per step, the axis that a batch of one loses (``feat/single_shapes``), and the tuple
that the released forward returns (``norm/returned_shapes``).
"""

import re
from functools import cache

import numpy as np
import pytest
import torch

from pipeline_src.evaluate.retrieval import rank_scores
from pipeline_src.evaluate.segments import SCORES, segment_scores
from pipeline_src.loader.segments import SegmentRule
from pipeline_src.methods.cav_mae.objective import MaskPlan
from pipeline_src.methods.common.contrast import contrastive_loss
from pipeline_src.methods.common.pictures import patches_to_frames, patches_to_logmel
from pipeline_src.methods.common.pos_embed import sincos_2d
from pipeline_src.methods.common.published_keys import published_keys
from tests.objectives import cav_mae_sync_objective
from tests.parity.seeded import assert_close, cases_with
from tests.parity.steps import (
    check_draws,
    check_gradients,
    check_order,
    fill,
    gradient_norms,
    recorded_masks,
    recording,
    seeded_noise,
)

CASES = cases_with("segments/T16_S1024_L416")
NAME = "cav_mae_sync_base"
# Pass -> fields of the network's configuration that differ.
PASSES = {
    "norm": {},
    "nonorm": {"norm_pix_loss": False},
    "global_local": {"contrast_features": "both"},
    "ratios": {},
}
RUN = [
    *("norm", "global_local"),
    *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("nonorm", "ratios")),
]
pytestmark = [
    pytest.mark.slow,  # whole clips of 16 segments through networks of base size
    pytest.mark.parity,
    pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.stem),
]


def segments(case):
    """Start and end of the segment of every frame."""
    sizes = [case.number(key) for key in ("total_frame", "spectrogram_length", "audio_length")]
    return case.arrays["segments/T{}_S{}_L{}".format(*sizes)]


def inputs(case):
    """Of a classification: segments (B, G, T, M) and frames (B, G, 3, H, W) of whole clips."""
    num_clips = case.number("batch_finetune")
    logmel = case.logmel(num_clips)
    cut = torch.stack([logmel[:, start:end] for start, end in segments(case)], dim=1)
    return cut, case.frames(num_clips, case.number("total_frame"))


@cache
def pretrained(case):
    return network(case, "cav_mae_sync_pretrain", 0)


@cache
def finetuned(case, keys_file, classifier):
    return network(case, keys_file, case.number("num_classes"), classifier=classifier)


def network(case, keys_file, num_classes, **overrides):
    lengths = {
        "target_length": case.number("audio_length"),
        "clip_length": case.number("spectrogram_length"),
        "num_registers": case.number("num_register_tokens"),
    }
    return fill(NAME, case, keys_file, num_classes, **lengths, **overrides)


@cache
def run_pass(case, name):
    """Loss values, features, predictions and every gradient norm by published name."""
    model = pretrained(case)
    model.config = model.config.model_copy(
        update={"norm_pix_loss": True, "contrast_features": "class"} | PASSES[name]
    )
    num_clips = case.number("batch_pretrain")
    chosen = segments(case)[case.arrays["meta/frame_index"]]
    logmel = case.logmel(num_clips)
    batch = {
        "logmel": torch.stack([clip[a:b] for clip, (a, b) in zip(logmel, chosen, strict=True)]),
        "frames": case.frames(num_clips),
    }
    plan = MaskPlan(*recorded_masks(case, name, "random_masking_unstructured"))
    weight = float(case.arrays["meta/contrast_weight"])
    objective = cav_mae_sync_objective(model, contrast_weight=weight)
    outputs, finished = [], []
    with recording(model, "forward_masked", outputs), recording(model, "_finish", finished):
        values = objective(batch, plan)
    values["loss"].backward()
    norms = gradient_norms(model, published_keys(NAME, model))
    model.zero_grad(set_to_none=True)
    return {key: value.item() for key, value in values.items()}, norms, outputs[0], finished


@pytest.mark.parametrize("name", RUN)
def test_losses(case, name):
    values = run_pass(case, name)[0]
    ours = {
        "loss": values["loss"],
        "loss_c": float(case.arrays["meta/contrast_weight"]) * values["contrast_loss"],
        "c_acc": values["contrast_accuracy"],
        "loss_mae": values["reconstruct_loss"],
        "loss_mae_a": values["audio_reconstruct_loss"],
        "loss_mae_v": values["video_reconstruct_loss"],
    }
    for key, value in ours.items():
        assert_close(value, case.arrays[f"{name}/{key}"], "loss")


@pytest.mark.parametrize("name", RUN)
def test_gradients(case, name):
    check_gradients(case, name, run_pass(case, name)[1], atol=1e-6)


@pytest.mark.parametrize("name", ["norm", pytest.param("ratios", marks=pytest.mark.exhaustive)])
def test_class_tokens(case, name):
    output = run_pass(case, name)[2]
    assert_close(output.audio_BD, case.arrays[f"{name}/cls_a"], "feature")
    assert_close(output.video_BD, case.arrays[f"{name}/cls_v"], "feature")


def test_tokens_of_each_pass(case):
    joint, audio, video = run_pass(case, "norm")[3]
    assert_close(audio[:, 1:].mean(1), case.arrays["norm/patch_a_mean"], "feature")
    assert_close(video[:, 1:].mean(1), case.arrays["norm/patch_v_mean"], "feature")
    assert_close(joint.mean(1), case.arrays["norm/joint_mean"], "feature")


@pytest.mark.parametrize("name", RUN)
def test_token_counts(case, name):
    joint, audio, video = (x_BLD.shape[1] for x_BLD in run_pass(case, name)[3])
    assert [joint, audio - 1, video - 1] == case.arrays[f"{name}/token_counts"].tolist()


def test_predictions(case):
    output, config = run_pass(case, "norm")[2], pretrained(case).config
    audio = patches_to_logmel(config, output.audio_BLP).mean(1)
    video = patches_to_frames(config, output.video_BLP)[:, 0].mean((1, 3))
    assert_close(audio, case.arrays["norm/recon_a_mean"], "feature")
    assert_close(video, case.arrays["norm/recon_v_mean"], "feature")


def test_contrast_of_class_tokens_and_of_means(case):
    output = run_pass(case, "global_local")[2]
    pairs = zip(output.audio_BD.chunk(2, 1), output.video_BD.chunk(2, 1), strict=True)
    weight = float(case.arrays["meta/contrast_weight"])
    for name, (audio, video) in zip(("global", "local"), pairs, strict=True):
        value = contrastive_loss(audio, video, temperature=0.05, direction="v2a")["contrast_loss"]
        assert_close(weight * value, case.arrays[f"global_local/loss_c_{name}"], "loss")


@pytest.mark.parametrize("direction", ["v2a", "both"])
def test_contrast_of_recorded_tokens(case, direction):
    audio, video = (torch.from_numpy(case.arrays[f"norm/cls_{side}"]) for side in "av")
    values = contrastive_loss(audio, video, temperature=0.05, direction=direction)
    name = f"nce/bidirect_{direction == 'both'}"
    assert_close(values["contrast_loss"], case.arrays[name], "loss")
    assert_close(values["contrast_accuracy"], case.arrays[f"{name}_acc"], "loss")


@pytest.mark.parametrize("name", RUN)
def test_draws_follow_from_the_salt(case, name):
    check_draws(case, name)


@pytest.mark.parametrize("name", RUN)
def test_masks_follow_from_the_draws(case, name):
    ratios = [float(case.arrays["meta/mask_ratio"])] * 2
    if name == "ratios":
        ratios = case.arrays["meta/mask_ratios_asymmetric"].tolist()
    masks = recorded_masks(case, name, "random_masking_unstructured")
    for draw, mask, ratio in zip(case.names(f"{name}/draw.*"), masks, ratios, strict=True):
        check_order(seeded_noise(case, draw), mask, ratio)


def test_segment_tables(case):
    for name in case.names(r"segments/T\d+_S\d+_L\d+"):
        num_frames, clip_length, length = map(int, re.findall(r"\d+", name))
        rule = SegmentRule(clip_length)
        ours = [rule.bounds(length, [k], num_frames) for k in range(num_frames)]
        assert ours == list(map(tuple, case.arrays[name].tolist())), name


def test_position_tables(case):
    grid = (8, case.number("audio_length") // 16)
    audio, video = sincos_2d(grid, 768)[0], sincos_2d((14, 14), 768)[0]
    assert_close(audio[:, :8], case.arrays["positions/pos_embed_a"], "feature")
    assert_close(video[:, :8], case.arrays["positions/pos_embed_v"], "feature")
    sums = sincos_2d(grid, 512)[0].sum(1)
    assert_close(sums, case.arrays["positions/decoder_pos_embed_a_sum"], "feature")


@cache
@torch.no_grad()
def embedded(case):
    pretrained(case).config = pretrained(case).config.model_copy(
        update={"contrast_features": "class"}
    )
    return pretrained(case).embed_segments(*inputs(case))


@pytest.mark.exhaustive
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_features_of_whole_clips(case, modality):
    recorded = case.arrays[f"feat/cls_{modality[0]}"]  # our own copy holds the first columns alone
    assert_close(embedded(case)[modality][..., : recorded.shape[-1]], recorded, "feature")


@torch.no_grad()
def test_patch_means_of_whole_clips(case):
    kept = case.arrays["meta/kept_frames"].tolist()
    cut, frames = inputs(case)
    for place, k in enumerate(kept):
        audio = pretrained(case).encode_audio(cut[:, k]).mean(1)
        video = pretrained(case).encode_video(frames[:, k : k + 1]).mean(1)
        assert_close(audio, case.arrays["feat/patch_a_mean"][:, place], "feature")
        assert_close(video, case.arrays["feat/patch_v_mean"][:, place], "feature")


def unit(values):
    values = np.asarray(values, np.float64)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("score", SCORES)
def test_scores_of_clips(case, score):
    sides = (unit(embedded(case)[side].numpy()) for side in ("audio", "video"))
    recorded = case.arrays[f"feat/sim_{score}"]
    assert_close(torch.from_numpy(segment_scores(*sides, score)), recorded, "feature")


def seeded_features(case):
    def normal(tag, *shape):
        return case.rng(tag).standard_normal(shape)

    a = normal("ra", 20, 16, 12) + 0.5 * normal("rc", 20, 1, 12)
    b = a + 6 * normal("rb", 20, 16, 12)
    return unit(a.astype(np.float32)), unit(b.astype(np.float32))


def recalls(places_N):
    """What the release reports of ranks from 0."""
    return [*((places_N < k).mean() for k in (1, 5, 10)), np.median(places_N) + 1]


@pytest.mark.parametrize("score", SCORES)
def test_recalls_of_seeded_features(case, score):
    scores_NN = segment_scores(*seeded_features(case), score)
    assert_close(torch.from_numpy(scores_NN), case.arrays[f"retrieval/sim_{score}"], "feature")
    ranks = rank_scores(scores_NN)
    for name, rows in (("audio_to_video", "audio"), ("video_to_audio", "video")):
        recorded = case.arrays[f"retrieval/{score}_{rows}"]
        assert_close(torch.tensor(recalls(ranks[name].ranks_N)), recorded, "feature")


def test_ties_enter_the_released_recalls_as_often_as_they_are_many(case):
    scores_NN = case.arrays["retrieval/tied_sim"]
    ranks = rank_scores(scores_NN)["audio_to_video"]
    is_equal_NN = scores_NN == np.diag(scores_NN)[:, None]
    assert ranks.num_tied == (is_equal_NN.sum(1) > 1).sum()
    places = [
        rank + i
        for rank, equal_N in zip(ranks.ranks_N, is_equal_NN, strict=True)
        for i in range(equal_N.sum())
    ]
    assert_close(torch.tensor(recalls(np.array(places))), case.arrays["retrieval/tied"], "feature")


@torch.no_grad()
def test_logits_of_both_inputs(case):
    model = finetuned(case, "cav_mae_sync_ft", "pairs")
    logits = model.forward_heads(*inputs(case))["audio_video"][:, 0]
    assert_close(logits, case.arrays["ft/multimodal"], "feature")


@torch.no_grad()
def test_the_order_of_frames_does_not_matter(case):
    classifier = finetuned(case, "cav_mae_sync_ft", "pairs").classifier
    features = torch.from_numpy(case.rng("ra").standard_normal((2, 16, 1536))).float()
    torch.testing.assert_close(
        classifier(features.flip(1)), classifier(features), rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_what_the_aggregator_of_both_inputs_reads(case):
    model = finetuned(case, "cav_mae_sync_ft", "pairs")
    cut, frames = inputs(case)
    k = case.arrays["meta/kept_frames"][0]
    own = model._branches(cut[:, k : k + 1], frames[:, k : k + 1])
    pair = torch.cat([own["audio"][:, 0, 0], own["video"][:, 0, 0]], dim=1)
    assert_close(pair, case.arrays["ft/features"], "feature")


def test_gradients_of_classification(case):
    model = finetuned(case, "cav_mae_sync_ft", "pairs")
    ends = [0, case.number("total_frame") - 1]
    cut, frames = (x[:, ends] for x in inputs(case))
    logits = model.forward_heads(cut, frames)["audio_video"][:, 0]
    loss = logits.square().mean()
    loss.backward()
    assert_close(logits, case.arrays["ft/two_frames"], "feature")
    assert_close(loss, case.arrays["ft/two_frames_loss"], "loss")
    norms = gradient_norms(model, published_keys(NAME, model))
    model.zero_grad(set_to_none=True)
    check_gradients(case, "ft", norms, atol=1e-6)


@pytest.mark.exhaustive
@torch.no_grad()
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_logits_of_one_input(case, modality):
    model = finetuned(case, "cav_mae_sync_ft_single", "single")
    given = dict(zip(("audio", "video"), inputs(case), strict=True))
    logits = model.forward_heads(**{modality: given[modality]})[modality][:, 0]
    assert_close(logits, case.arrays[f"ft/{modality}only"], "feature")


@torch.no_grad()
@pytest.mark.parametrize("single_modality", ["own", "averaged"])
def test_logits_of_one_frame(case, single_modality):
    model = finetuned(case, "cav_mae_sync_ft_frame", "frame")
    model.config = model.config.model_copy(update={"single_modality": single_modality})
    k = case.arrays["meta/kept_frames"][0]
    cut, frames = (x[:, k : k + 1] for x in inputs(case))
    prefix = "" if single_modality == "own" else "missing"
    for name, logits in model.forward_heads(cut, frames).items():
        assert_close(logits[:, 0], case.arrays[f"ftframe/{prefix}{name}only"], "feature")
