"""AVSiam: names, norms, token order, frame groups, heads, pictures, initial weights."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.methods.common.blocks import Block
from pipeline_src.methods.common.masking import draw_noise, mask_from_noise
from pipeline_src.methods.common.patch_embed import patchify, unpatchify
from pipeline_src.methods.common.pictures import audio_patches, video_patches
from pipeline_src.methods.common.pos_embed import sincos_2d, stretch_positions
from pipeline_src.methods.factory import create_model
from tests import networks

SMALL = networks.SMALL | {"audio_patch_size": (8, 4), "target_length": 12}


def make_model(num_classes=0, **overrides):
    torch.manual_seed(0)
    return create_model("avsiam_tiny", num_classes=num_classes, **{**SMALL, **overrides})


def make_inputs(num_clips=3, num_frames=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logmel = torch.randn(num_clips, 12, 16, generator=generator)
    return logmel, torch.randn(num_clips, num_frames, 3, 16, 16, generator=generator)


def make_masks(model, num_clips, ratio=0.5):
    generator = torch.Generator().manual_seed(0)
    return [
        mask_from_noise(draw_noise(num_clips, num_tokens, generator), ratio)
        for num_tokens in (model.num_audio_tokens, model.num_video_tokens)
    ]


@pytest.mark.parametrize(
    ("name", "audio_grid", "video_grid", "width", "depth"),
    [("avsiam_base", (8, 64), (14, 14), 768, 12), ("avsiam_huge", (9, 73), (16, 16), 1280, 32)],
)
def test_published_sizes(name, audio_grid, video_grid, width, depth):
    with torch.device("meta"):
        model = create_model(name)
    assert (model.audio_grid, model.video_grid) == (audio_grid, video_grid)
    assert (model.config.embed_dim, len(model.vit_base.blocks)) == (width, depth)


def test_base_has_the_published_names_and_size():
    with torch.device("meta"):
        state = create_model("avsiam_base").state_dict()
    assert state["vit_base.pos_embed_a"].shape == (1, 512, 768)
    assert state["vit_base.blocks.11.norm1_a.weight"].shape == (768,)
    assert state["mm_layer_2.attn.qkv.weight"].shape == (2304, 768)
    encoder = sum(v.numel() for k, v in state.items() if not k.startswith("decoder"))
    assert round(encoder / 1e6, 2) == 100.60  # published 100.65 M, less dead norms and cls token


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("avsiam_mini", {}, "allowed: avsiam_tiny, avsiam_small"),
        ("avsiam_tiny", {"depht": 3}, r"unknown override depht; did you mean 'depth'\?; allowed: "),
        ("avsiam_tiny", {"depth": 0}, "depth=0"),
        ("avsiam_tiny", {"img_size": 30}, "img_size=30 is not a multiple of patch_size=16"),
        ("avsiam_tiny", {"num_heads": 5}, "embed_dim=128 is not a multiple of num_heads=5"),
        ("avsiam_tiny", {"target_length": 8}, "does not fit a log-mel"),
        ("avsiam_tiny", {"variant": "mine"}, "allowed: paper, released"),
        ("avsiam_tiny", {"init": "nowhere.pth"}, "nowhere.pth is no file"),
    ],
)
def test_wrong_arguments_are_refused_by_name(name, overrides, message):
    with pytest.raises(ConfigError, match=message):
        create_model(name, **overrides)


def test_variant_sets_defaults_that_overrides_change():
    released = create_model("avsiam_tiny", variant="released", **SMALL)
    assert released.config.double_input
    assert released.config.decoder_depth == SMALL["decoder_depth"]
    assert released.decoder.pos_embed_a.abs().max() == 0
    last_qkv = released.vit_base.blocks[-1].attn.qkv.weight
    assert torch.equal(released.mm_layer_1.attn.qkv.weight, last_qkv)


def test_decoder_positions_of_the_paper_variant_tell_hidden_tokens_apart_from_the_start():
    decoder = make_model().decoder
    for positions in (decoder.pos_embed_a[0], decoder.pos_embed_v[0]):
        assert torch.cdist(positions, positions).fill_diagonal_(1).min() > 0.1


def test_fusion_starts_from_the_last_two_blocks():
    model = make_model()
    for layer, block in ((model.mm_layer_1, -2), (model.mm_layer_2, -1)):
        assert torch.equal(layer.mlp.fc1.weight, model.vit_base.blocks[block].mlp.fc1.weight)


@pytest.mark.parametrize(("used", "unused"), [("audio", "_v"), ("video", "_a")])
def test_only_the_norms_of_the_given_modality_are_used(used, unused):
    block = Block(8, 2, norms=("audio", "video"))
    block(torch.randn(2, 5, 8), used).square().sum().backward()
    without = {name.split(".")[0] for name, p in block.named_parameters() if p.grad is None}
    assert without == {f"norm1{unused}", f"norm2{unused}"}


def test_audio_tokens_are_frequency_major():
    model = make_model()
    logmel, _ = make_inputs(1)
    changed = logmel.clone()
    changed[:, 4:8, 8:16] += 1  # second time patch of three, second frequency patch of two
    difference = model.vit_base.embed_audio(changed) - model.vit_base.embed_audio(logmel)
    assert difference.abs().sum((0, 2)).nonzero().flatten().tolist() == [1 * 3 + 1]


def test_features_do_not_depend_on_the_batch():
    model = make_model(num_frames=2).eval()
    logmel, frames = make_inputs(4, num_frames=2)
    together = model.embed(logmel, frames)
    for i in range(4):
        alone = model.embed(logmel[i : i + 1], frames[i : i + 1])
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][i])


def test_several_frames_start_as_if_unordered_and_one_frame_adds_no_parameter():
    one, two = make_model(), make_model(num_frames=2)
    extra = set(two.state_dict()) - set(one.state_dict())
    assert extra == {"vit_base.temporal_embed", "decoder.temporal_embed"}
    two.load_state_dict(one.state_dict(), strict=False)
    _, frames = make_inputs(2)
    tokens = two.vit_base.embed_video(frames.expand(-1, 2, -1, -1, -1))
    torch.testing.assert_close(tokens, one.vit_base.embed_video(frames).repeat(1, 2, 1))


@pytest.mark.parametrize(
    ("total", "size", "groups"),
    [
        (4, 2, [[0, 2], [1, 3]]),
        (10, 1, [[i] for i in range(10)]),
        (10, 4, [[0, 3, 5, 8], [1, 4, 6, 9]]),
        (3, 3, [[0, 1, 2]]),
    ],
)
def test_frames_are_grouped_in_interleaved_order(total, size, groups):
    model = make_model(num_frames=size)
    frames = torch.arange(float(total)).view(1, total, 1, 1, 1).expand(-1, -1, 3, 16, 16)
    assert model.group_frames(frames)[0, :, :, 0, 0, 0].tolist() == groups


def test_each_group_of_frames_is_scored_as_if_alone():
    model = make_model(num_classes=5, num_frames=2).eval()
    logmel, frames = make_inputs(3, num_frames=4)
    groups = model.forward_heads(logmel, frames)["audio_video"]
    assert groups.shape == (3, 2, 5)
    single = model.forward_heads(logmel, frames[:, [1, 3]])["audio_video"]
    torch.testing.assert_close(single, groups[:, 1:])


@pytest.mark.parametrize("name", ["avsiam_tiny", "cav_mae_tiny"])
def test_audio_is_encoded_once_for_any_number_of_frames(name):
    model = create_model(name, num_classes=5, **{**SMALL, "num_frames": 1}).eval()
    encoded = []
    for path, module in model.named_modules():
        if path.endswith("patch_embed_a"):
            module.register_forward_hook(lambda _, inputs, __: encoded.append(len(inputs[0])))
    logmel, frames = make_inputs(3, num_frames=10)
    assert model.forward_heads(logmel, frames)["audio_video"].shape == (3, 10, 5)
    assert encoded == [3]


def test_each_head_needs_only_its_inputs():
    model = make_model(num_classes=5).eval()
    logmel, frames = make_inputs()
    both = model.forward_heads(logmel, frames)
    alone = {"audio": model.forward_heads(audio=logmel), "video": model.forward_heads(video=frames)}
    for head, scores in alone.items():
        assert set(scores) == {head}
        torch.testing.assert_close(scores[head], both[head])
    with pytest.raises(ValueError, match="audio, video or both"):
        model.forward_heads()


@pytest.mark.parametrize(
    ("logmel_shape", "frames_shape", "message"),
    [
        ((1, 11, 16), (1, 2, 3, 16, 16), "target_length=12"),
        ((1, 12, 16), (1, 2, 3, 8, 8), "img_size=16"),
        ((1, 12, 16), (1, 1, 3, 16, 16), "num_frames=2"),
    ],
)
def test_wrong_shapes_are_refused(logmel_shape, frames_shape, message):
    model = make_model(num_frames=2)
    with pytest.raises(ValueError, match=message):
        model.embed(torch.zeros(logmel_shape), torch.zeros(frames_shape))


def test_grad_checkpointing_changes_no_value():
    model = make_model()
    logmel, frames = make_inputs()
    plain = model.embed(logmel, frames)["audio"]
    model.set_grad_checkpointing()
    torch.testing.assert_close(model.embed(logmel, frames)["audio"], plain)


def test_layer_ids_cover_every_parameter():
    model = make_model(num_classes=3)
    ids = {name: model.layer_id(name) for name, _ in model.named_parameters()}
    assert ids["vit_base.pos_embed_a"] == 0
    assert ids["vit_base.blocks.1.norm1_v.bias"] == 2
    assert ids["vit_base.norm.weight"] == 2
    assert ids["mm_layer_1.mlp.fc1.bias"] == "fusion"
    assert ids["mlp_head_mm.1.weight"] == "head"
    assert make_model().layer_id("decoder.mask_token") == "decoder"


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_pictures_keep_visible_patches_and_fill_hidden_ones(norm_pix_loss):
    model = make_model(num_frames=2, norm_pix_loss=norm_pix_loss).eval()
    logmel, frames = make_inputs(2, num_frames=2)
    result = model.reconstruct(logmel, frames, *make_masks(model, 2))
    for picture, hidden, original in (
        (result.audio, result.audio_is_masked, logmel),
        (result.video, result.video_is_masked, frames),
    ):
        assert torch.equal(picture[~hidden], original[~hidden])
        assert not torch.isclose(picture[hidden], original[hidden]).any()
        assert hidden.float().mean() == 0.5


def test_patches_go_back_to_pixels_in_token_order():
    model = make_model()
    logmel, frames = make_inputs()
    images = frames[:, 0]
    assert torch.equal(unpatchify(patchify(images, (8, 4)), (8, 4), (2, 4)), images)
    first_clip = audio_patches(model.config, logmel)[0]
    assert torch.equal(first_clip[1].view(8, 4), logmel[0, 4:8, 0:8].T)
    assert video_patches(model.config, frames).shape == (3, 4, 8 * 8 * 3)


def test_sincos_tells_positions_apart():
    table = sincos_2d((3, 4), 16)[0]
    assert table.shape == (12, 16)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.1
    with pytest.raises(ValueError, match="divisible by 4"):
        sincos_2d((2, 2), 6)


def test_audio_positions_are_the_stretched_image_positions():
    positions = torch.arange(196.0).view(1, 196, 1)
    stretched = stretch_positions(positions, 512)[0, :, 0]
    assert stretched.tolist() == [i * 196 // 512 for i in range(512)]


TIMM_ARGS = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture
def timm_state():
    torch.manual_seed(1)
    return timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=4, **TIMM_ARGS
    ).state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_timm_file_fills_both_modalities(tmp_path, timm_state, suffix, caplog):
    path = tmp_path / f"vit{suffix}"
    save_file(timm_state, path) if suffix == ".safetensors" else torch.save(timm_state, path)
    with caplog.at_level("INFO"):
        model = make_model(init=str(path))
    state = model.state_dict()
    kernel = timm_state["patch_embed.proj.weight"]
    torch.testing.assert_close(state["vit_base.patch_embed.proj.weight"], kernel)
    assert state["vit_base.patch_embed_a.proj.weight"].shape == (16, 1, 8, 4)
    for suffix_name in ("_a", "_v"):
        key = f"vit_base.blocks.1.norm2{suffix_name}.weight"
        assert torch.equal(state[key], timm_state["blocks.1.norm2.weight"])
    assert torch.equal(state["vit_base.norm_a.bias"], timm_state["norm.bias"])
    assert torch.equal(state["mm_layer_2.attn.qkv.weight"], timm_state["blocks.1.attn.qkv.weight"])
    assert state["vit_base.pos_embed"].shape == (1, 4, 16)  # 4 x 4 positions resampled to 2 x 2
    expected = stretch_positions(timm_state["pos_embed"][:, 1:], model.num_audio_tokens)
    assert torch.equal(state["vit_base.pos_embed_a"], expected)
    assert "cls_token" in caplog.text.partition("unused:")[2].partition("missing:")[0]
    assert "decoder.mask_token" in caplog.text.partition("missing:")[2]


def test_same_kernel_size_gives_the_rgb_mean(tmp_path, timm_state):
    save_file(timm_state, tmp_path / "vit.safetensors")
    model = make_model(init=str(tmp_path / "vit.safetensors"), audio_patch_size=(8, 8))
    torch.testing.assert_close(
        model.vit_base.patch_embed_a.proj.weight,
        timm_state["patch_embed.proj.weight"].mean(1, keepdim=True),
    )


def test_a_file_that_does_not_fit_is_refused(tmp_path, timm_state):
    path = tmp_path / "vit.safetensors"
    save_file(timm_state, path)
    with pytest.raises(CheckpointError, match=r"shape \(16,.*choose the matching"):
        make_model(init=str(path), embed_dim=32)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"no image ViT.*no patch_embed"):
        make_model(init=str(path))
    path.write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="cannot be read"):
        make_model(init=str(path))


def test_without_network_the_hub_error_names_the_alternative(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(ConfigError, match=r"vit_small_patch16_224.*init: <path"):
        create_model("avsiam_small", init="timm", **SMALL)
    with pytest.raises(ConfigError, match="no weights of size tiny"):
        make_model(init="timm")
