"""MAViL and DiffMAViL: the networks, their inputs and heads, their start from an image ViT."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from pipeline_src.config import EvaluateConfig
from pipeline_src.errors import ConfigError
from pipeline_src.evaluate.gallery import score_retrieval
from pipeline_src.methods.common.masking import draw_noise, mask_from_noise
from pipeline_src.methods.common.pictures import (
    audio_patches,
    patches_to_frames,
    patches_to_logmel,
    video_patches,
)
from pipeline_src.methods.common.pos_embed import sincos_3d
from pipeline_src.methods.factory import create_model
from tests import networks
from tests.networks import image_vit
from tests.objectives import published_classifier

SMALL = networks.SMALL | {"num_frames": 4, "proj_dim": 8}
NAMES = ("mavil_tiny", "diffmavil_tiny")


def make_model(name="mavil_tiny", num_classes=0, **overrides):
    torch.manual_seed(0)
    return create_model(name, num_classes=num_classes, **{**SMALL, **overrides})


def make_batch(num_clips=4, num_frames=4):
    generator = torch.Generator().manual_seed(0)
    return {
        "logmel": torch.randn(num_clips, 24, 16, generator=generator),
        "frames": torch.randn(num_clips, num_frames, 3, 16, 16, generator=generator),
        "targets": F.one_hot(torch.arange(num_clips) % 5, 5).float(),
    }


def make_masks(model, num_clips=4, ratio=0.5):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        mask_from_noise(draw_noise(num_clips, num_tokens, generator), ratio)
        for num_tokens in (model.num_audio_tokens, model.num_video_tokens)
    )


def without_gradient(module):
    return [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]


def test_base_has_the_parameters_of_its_blocks():
    with torch.device("meta"):
        model = create_model("mavil_base", num_frames=8)
    counts = {n: sum(p.numel() for p in c.parameters()) for n, c in model.named_children()}
    block = sum(p.numel() for p in model.audio.blocks[0].parameters())
    assert 12 * block == 12 * (12 * 768**2 + 13 * 768)
    assert counts["audio"] == 12 * block + 768 * (256 + 1) + 768 + 2 * 768
    assert counts["video"] == 12 * block + 768 * (1536 + 1) + 768 + 2 * 768
    assert len(model.fusion.blocks) == 2
    assert len(model.decoder_a.blocks) == len(model.decoder_v.blocks) == 8
    assert (model.num_audio_tokens, model.num_video_tokens) == (512, 784)
    assert model.video.patch_embed.proj.weight.shape == (768, 3, 2, 16, 16)


def test_state_dict_names():
    names = set(make_model().state_dict())
    for prefix in ("audio", "video"):
        expected = {"cls_token", "pos_embed", "norm.weight", "patch_embed.proj.weight"}
        assert {f"{prefix}.{name}" for name in expected} <= names
    for prefix in ("decoder_a", "decoder_v"):
        expected = {"norm_in.bias", "embed.weight", "mask_token", "pos_embed", "pred.bias"}
        assert {f"{prefix}.{name}" for name in expected} <= names
    assert {"fusion.blocks.1.norm2.bias", "fusion.norm.weight", "proj_a.0.weight"} <= names
    heads = {n for n in make_model(num_classes=5).state_dict() if n.startswith("head")}
    assert {n.split(".")[0] for n in heads} == {"head_av", "head_a", "head_v"}


def test_tokens_are_ordered_by_time_then_frequency_and_by_tubelet():
    config, batch = make_model().config, make_batch()
    audio, video = audio_patches(config, batch["logmel"]), video_patches(config, batch["frames"])
    assert audio.shape == (4, 6, 64)
    assert torch.equal(audio[0, 1].view(8, 8), batch["logmel"][0, :8, 8:])
    assert torch.equal(audio[0, 2].view(8, 8), batch["logmel"][0, 8:16, :8])
    assert video.shape == (4, 8, 2 * 8 * 8 * 3)
    tubelet = batch["frames"][0, 2:4, :, :8, 8:].permute(0, 2, 3, 1)
    assert torch.equal(video[0, 5].view(2, 8, 8, 3), tubelet)
    assert torch.equal(patches_to_logmel(config, audio), batch["logmel"])
    assert torch.equal(patches_to_frames(config, video), batch["frames"])


def test_patch_embeddings_are_the_convolutions():
    model, batch = make_model(), make_batch()
    conv = model.video.patch_embed.proj(batch["frames"].transpose(1, 2)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.video.patch_embed(batch["frames"]), conv)
    conv = model.audio.patch_embed.proj(batch["logmel"][:, None]).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.audio.patch_embed(batch["logmel"][:, None]), conv)


@pytest.mark.parametrize("dim", [8, 16, 96])
def test_3d_positions_tell_tokens_apart(dim):
    table = sincos_3d((3, 2, 4), dim)[0]
    assert table.shape == (24, dim)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.05


@pytest.mark.parametrize("num_frames", [5, 8, 10])
def test_the_demo_inputs_fit_and_odd_frames_are_cut(num_frames):
    model = make_model(num_frames=num_frames)
    assert model.num_video_tokens == num_frames // 2 * 4
    batch = make_batch(2, num_frames)
    result = model.reconstruct(batch["logmel"], batch["frames"], *make_masks(model, 2))
    assert result.video.shape[1] == num_frames // 2 * 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_frames": 1}, "num_frames=1 is less than one tubelet of tubelet_size=2"),
        ({"context": "both"}, "context=both needs a cross"),
        ({"variant": "released"}, "allowed: reconstruction"),
        ({"diffusion": True, "predicts": "features"}, "set diffusion=false"),
    ],
)
def test_networks_that_cannot_be_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_model(**overrides)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_do_not_depend_on_the_batch(name):
    model, batch = make_model(name).eval(), make_batch()
    masks = make_masks(model)
    together = model.forward_reconstruct(batch["logmel"], batch["frames"], *masks)
    pooled = model.embed(batch["logmel"], batch["frames"])
    for i in range(4):
        one = slice(i, i + 1)
        alone = model.forward_reconstruct(
            batch["logmel"][one],
            batch["frames"][one],
            *(type(mask)(*(tensor[one] for tensor in mask)) for mask in masks),
        )
        for mine, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(mine[0], all_[i])
        for side, value in model.embed(batch["logmel"][one], batch["frames"][one]).items():
            torch.testing.assert_close(value[0], pooled[side][i])


def test_pooled_features_are_contrasted_through_the_projections():
    model, batch = make_model(), make_batch()
    pooled = model.embed(batch["logmel"], batch["frames"])
    assert {name: tuple(v.shape) for name, v in model.project_for_contrast(pooled).items()} == {
        "audio": (4, 8),
        "video": (4, 8),
    }
    assert make_model(num_classes=5).project_for_contrast(pooled) == {}


def test_every_input_is_scored_and_frames_make_groups():
    model, batch = make_model(num_classes=5).eval(), make_batch(num_frames=8)
    logits = model.forward_heads(batch["logmel"], batch["frames"])
    assert {head: tuple(value.shape) for head, value in logits.items()} == {
        "audio": (4, 1, 5),
        "video": (4, 2, 5),
        "audio_video": (4, 2, 5),
    }
    sound = model.forward_heads(audio=batch["logmel"])
    torch.testing.assert_close(sound["audio"], logits["audio"])
    odd = model.forward_heads(batch["logmel"], batch["frames"][:, 1::2])
    torch.testing.assert_close(odd["audio_video"], logits["audio_video"][:, 1:])
    with pytest.raises(ValueError, match="audio, video or both"):
        model.forward_heads()


def test_fine_tuning_reaches_every_parameter():
    objective = published_classifier(make_model(num_classes=5), task="multiclass", all_heads=True)
    plan = objective.draw(4, None, torch.Generator().manual_seed(0))
    objective(make_batch(), plan)["loss"].backward()
    assert without_gradient(objective) == []


def test_layer_ids_cover_every_parameter():
    model = make_model(num_classes=3)
    ids = {name: model.layer_id(name) for name, _ in model.named_parameters()}
    assert ids["audio.cls_token"] == ids["video.patch_embed.proj.weight"] == 0
    assert ids["video.blocks.1.attn.qkv.weight"] == ids["audio.norm.bias"] == 2
    assert ids["fusion.norm.weight"] == "fusion"
    assert ids["head_av.1.weight"] == "head"
    model = make_model()
    assert model.layer_id("proj_a.0.weight") == model.layer_id("decoder_v.embed.bias") == "decoder"


def test_an_image_vit_fills_both_encoders(tmp_path):
    source = image_vit(depth=2) | {"decoder_embed.weight": torch.zeros(8, 16)}
    save_file(source, tmp_path / "mae.safetensors")
    state = make_model(init=str(tmp_path / "mae.safetensors")).state_dict()
    for side in ("audio", "video"):
        assert torch.equal(
            state[f"{side}.blocks.1.attn.qkv.weight"], source["blocks.1.attn.qkv.weight"]
        )
        assert torch.equal(state[f"{side}.cls_token"], source["cls_token"])
        assert torch.equal(state[f"{side}.norm.weight"], source["norm.weight"])
    kernel = source["patch_embed.proj.weight"]
    torch.testing.assert_close(state["video.patch_embed.proj.weight"].sum(2), kernel)
    total = kernel.sum(1, keepdim=True)
    torch.testing.assert_close(state["audio.patch_embed.proj.weight"], total)
    assert torch.equal(state["audio.pos_embed"], make_model().state_dict()["audio.pos_embed"])


def test_retrieval_compares_what_the_loss_aligned():
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randn(6, 4, generator=generator).numpy() for name in ("audio", "video")}
    features |= {"targets": torch.eye(6).numpy(), "index": np.arange(6)}
    samples = [SimpleNamespace(clip_id=f"c{i}") for i in range(6)]
    split = SimpleNamespace(shards=SimpleNamespace(samples=samples), index={})
    evaluate = EvaluateConfig(retrieval_per_class=0, num_bootstrap=0)

    def recall(extra):
        scores = score_retrieval(features | extra, split, evaluate)  # type: ignore[arg-type]
        return scores["audio_to_video"]["R@1"]["value"]

    assert recall({}) < 1
    assert recall({f"{name}_contrasted": torch.eye(6).numpy() for name in ("audio", "video")}) == 1
