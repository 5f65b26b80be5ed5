"""CAV-MAE: its own parts, the interface it shares, its objective, its start from an image MAE."""

import pytest
import torch
from safetensors.torch import save_file

from pipeline_src.errors import ConfigError
from pipeline_src.methods.common.masking import draw_noise, mask_from_noise
from pipeline_src.methods.factory import create_model
from tests import networks
from tests.networks import image_vit
from tests.objectives import cav_mae_objective, published_classifier

SMALL = {
    "img_size": 16,
    "patch_size": 8,
    "num_mel_bins": 16,
    "target_length": 24,
    "embed_dim": 16,
    "depth": 3,
    "num_heads": 2,
    "decoder_embed_dim": 8,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
}


def make_model(num_classes=0, **overrides):
    torch.manual_seed(0)
    return create_model("cav_mae_tiny", num_classes=num_classes, **{**SMALL, **overrides})


def make_batch(num_clips=4, num_frames=1):
    generator = torch.Generator().manual_seed(0)
    return {
        "logmel": torch.randn(num_clips, 24, 16, generator=generator),
        "frames": torch.randn(num_clips, num_frames, 3, 16, 16, generator=generator),
        "targets": torch.eye(num_clips, 5),
    }


def make_masks(model, num_clips=4):
    generator = torch.Generator().manual_seed(0)
    return [
        mask_from_noise(draw_noise(num_clips, num_tokens, generator), 0.5)
        for num_tokens in (model.num_audio_tokens, model.num_video_tokens)
    ]


def test_base_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = create_model("cav_mae_base")
    total = sum(p.numel() for p in model.parameters())
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert total - frozen == 190_129_920 - 2 * 4 * 768 * 22 - 2 * 4 * 512 * 8  # less dead norms
    assert frozen == 191_036_160 - 190_129_920
    assert len(model.blocks_a) == len(model.blocks_v) == 11


def test_positions_are_trainable_in_fine_tuning_only():
    assert not make_model().pos_embed_a.requires_grad
    assert not make_model().decoder.pos_embed_v.requires_grad
    assert make_model(5).pos_embed_a.requires_grad


def test_depths_that_leave_no_own_block_are_refused():
    with pytest.raises(ConfigError, match=r"shared_depth=3 leaves no block.*depth=3"):
        make_model(shared_depth=3)


def test_shared_blocks_are_chained():
    model = make_model(shared_depth=2).eval()
    x = torch.randn(2, 5, 16)
    by_hand = model.norm_a(model.blocks_u[1](model.blocks_u[0](x, "audio"), "audio"))
    torch.testing.assert_close(model._finish(x, "audio"), by_hand)


def test_modalities_share_only_the_last_blocks():
    model = make_model()
    model.encode_audio(make_batch()["logmel"]).sum().backward()
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert touched == {"patch_embed_a", "modality_a", "blocks_a", "blocks_u", "norm_a"}


def test_one_pass_pools_and_reconstructs_from_the_same_tokens():
    model, batch = make_model().eval(), make_batch()
    masks = make_masks(model)
    output = model.forward_masked(batch["logmel"], batch["frames"], *masks)
    alone = model.encode_audio(batch["logmel"], masks[0].ids_keep).mean(1)
    torch.testing.assert_close(output.audio_BD, alone)
    predictions = model.forward_reconstruct(batch["logmel"], batch["frames"], *masks)
    torch.testing.assert_close((output.audio_BLP, output.video_BLP), predictions)


def test_masked_features_do_not_depend_on_the_batch():
    model, batch = make_model(num_frames=2).eval(), make_batch(num_frames=2)
    together = model.embed(batch["logmel"], batch["frames"])
    for i in range(4):
        alone = model.embed(batch["logmel"][i : i + 1], batch["frames"][i : i + 1])
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][i])


def test_layer_ids_count_shared_blocks_behind_the_own_ones():
    model = make_model(5, shared_depth=1)
    assert model.layer_id("pos_embed_v") == 0
    assert model.layer_id("blocks_v.1.attn.qkv.weight") == 2
    assert model.layer_id("blocks_u.0.norm1_a.bias") == model.config.depth == 3
    assert model.layer_id("norm_v.weight") == 3
    assert model.layer_id("mlp_head.1.weight") == "head"


@pytest.mark.parametrize("single_modality", ["own", "averaged"])
def test_every_input_is_scored(single_modality):
    model = make_model(5, single_modality=single_modality).eval()
    batch = make_batch(num_frames=3)
    logits = model.forward_heads(batch["logmel"], batch["frames"])
    assert {head: tuple(value.shape) for head, value in logits.items()} == {
        "audio": (4, 1, 5),
        "video": (4, 3, 5),
        "audio_video": (4, 3, 5),
    }
    sound = model.forward_heads(audio=batch["logmel"])
    torch.testing.assert_close(sound["audio"], logits["audio"])
    middle = model.forward_heads(batch["logmel"], batch["frames"][:, 1:2])
    torch.testing.assert_close(middle["audio_video"], logits["audio_video"][:, 1:2])
    with pytest.raises(ValueError, match="audio, video or both"):
        model.forward_heads()


def test_pretraining_reaches_every_trainable_parameter():
    objective = cav_mae_objective(make_model())
    plan = objective.draw(4, networks.RATIOS, torch.Generator().manual_seed(0))
    values = objective(make_batch(), plan)
    values["loss"].backward()
    without = {n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    expected = 0.01 * values["contrast_loss"] + values["reconstruct_loss"]
    torch.testing.assert_close(values["loss"], expected)


def test_fine_tuning_reaches_every_parameter():
    objective = published_classifier(make_model(5), task="multiclass", all_heads=True)
    plan = objective.draw(4, None, torch.Generator().manual_seed(0))
    objective(make_batch(), plan)["loss"].backward()
    assert [n for n, p in objective.named_parameters() if p.grad is None] == []


def test_grad_checkpointing_changes_no_gradient():
    gradients = []
    for enable in (False, True):
        objective = cav_mae_objective(make_model())
        objective.model.set_grad_checkpointing(enable)
        plan = objective.draw(4, networks.RATIOS, torch.Generator().manual_seed(0))
        objective(make_batch(), plan)["loss"].backward()
        gradients.append(objective.model.patch_embed_a.proj.weight.grad)
    torch.testing.assert_close(*gradients)


def mae_state():
    """The state dict of a small image MAE with its decoder, under MAE's names."""
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "mask_token": (1, 1, 8),
        "decoder_pos_embed": (1, 5, 8),
        "decoder_embed.weight": (8, 16),
        "decoder_blocks.0.norm1.weight": (8,),
        "decoder_pred.weight": (192, 8),
    }
    decoder = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    return image_vit(depth=3) | decoder


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_image_mae_fills_both_branches_and_the_decoder(tmp_path, suffix):
    source = mae_state()
    path = tmp_path / f"mae{suffix}"
    save_file(source, path) if suffix == ".safetensors" else torch.save({"model": source}, path)
    state = make_model(init=str(path)).state_dict()
    for branch in "av":
        own = state[f"blocks_{branch}.1.attn.qkv.weight"]
        assert torch.equal(own, source["blocks.1.attn.qkv.weight"])
    for norm in ("norm1", "norm1_a", "norm1_v"):
        assert torch.equal(state[f"blocks_u.0.{norm}.weight"], source["blocks.2.norm1.weight"])
    kernel = source["patch_embed.proj.weight"]
    torch.testing.assert_close(state["patch_embed_a.proj.weight"], kernel.sum(1, keepdim=True))
    assert torch.equal(state["pos_embed_v"], source["pos_embed"][:, 1:])
    assert torch.equal(state["norm_v.bias"], source["norm.bias"])
    assert torch.equal(state["decoder.mask_token"], source["mask_token"])
    assert torch.equal(state["decoder.pred_a.weight"], source["decoder_pred.weight"][:64])
    assert torch.equal(state["decoder.embed.weight"], source["decoder_embed.weight"])
