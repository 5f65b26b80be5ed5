"""Image networks as a start: a plain ViT gives its own tokens, any other is refused by name."""

import json

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer

from pipeline_src.commands.cli import main
from pipeline_src.errors import CheckpointError
from pipeline_src.methods import METHODS
from pipeline_src.methods.common.image_start import load_image_weights
from pipeline_src.methods.factory import create_model
from tests.networks import SMALL

SIDE = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
NETWORK = {**SMALL, "img_size": 32}
PLAIN = {"class_token": False, "global_pool": "avg", "fc_norm": False}


def make_vit(**changes):
    """A ViT of timm's with every tensor away from its start value."""
    torch.manual_seed(0)
    vit = VisionTransformer(**{**SIDE, "num_classes": 3, **changes}).eval()
    for parameter in vit.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return vit


def save(state, folder):
    path = folder / "vit.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["avsiam_tiny", "cav_mae_tiny"])
def test_a_plain_vit_gives_its_own_tokens(tmp_path, name):
    vit = make_vit(**PLAIN)
    model = create_model(name, init=str(save(vit.state_dict(), tmp_path)), **NETWORK).eval()
    picture = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs = vit.forward_features(picture)
        ours = model.encode_video(picture[:, None])
    assert F.cosine_similarity(theirs, ours, dim=-1).min() > 0.9999


OTHERS = {
    "layer scale": ({**PLAIN, "init_values": 0.1}, "4 unused: blocks.0.ls1.gamma"),
    "normed queries": ({**PLAIN, "qk_norm": True}, "unused: blocks.0.attn.q_norm.weight"),
    "registers": ({"reg_tokens": 4}, "1 unused: reg_token"),
    "norm after pooling": ({"global_pool": "avg"}, "fc_norm.weight.*2 missing: norm.weight"),
    "norm before the blocks": ({**PLAIN, "pre_norm": True}, "unused: norm_pre.weight"),
    "no bias of queries": ({**PLAIN, "qkv_bias": False}, "2 missing: blocks.0.attn.qkv.bias"),
    "deeper": ({**PLAIN, "depth": 4}, r"24 unused: blocks.2.norm1.weight.* \.\.\."),
    "shallower": ({**PLAIN, "depth": 1}, "12 missing: blocks.1.norm1.weight"),
    "wider": ({**PLAIN, "embed_dim": 32}, r"has shape \(.*32.*choose the matching"),
    "one channel": ({**PLAIN, "in_chans": 1}, "takes 1 channels, not the 3"),
    "another kernel": ({**PLAIN, "img_size": 32, "patch_size": (8, 4)}, r"shape \(16, 3, 8, 4\)"),
    "oblong with a class token": ({"img_size": (24, 40)}, "16 positions and there is a class"),
    "oblong": ({**PLAIN, "img_size": (32, 16)}, "pos_embed has 8 positions.*no square"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("changes", "message"), OTHERS.values(), ids=OTHERS)
def test_another_network_is_refused_by_the_tensors_that_differ(tmp_path, method, changes, message):
    path = save(make_vit(**changes).state_dict(), tmp_path)
    frames = {"num_frames": 2} if "mavil" in method else {}
    with pytest.raises(CheckpointError, match=message):
        create_model(f"{method}_tiny", init=str(path), **NETWORK, **frames)


def test_blocks_of_another_name_are_refused(tmp_path):
    state = {k.replace("blocks.", "layers."): v for k, v in make_vit(**PLAIN).state_dict().items()}
    with pytest.raises(CheckpointError, match=r"24 unused: layers.*24 missing: blocks\.0\.norm1"):
        create_model("avsiam_tiny", init=str(save(state, tmp_path)), **NETWORK)


@pytest.mark.parametrize("shape", [(16,), (0,), (1, 16), (2, 16, 16), (1, 16, 8), (1, 0, 16)])
@pytest.mark.parametrize("method", ["avsiam", "mavil"])
def test_positions_of_another_form_are_refused_in_a_sentence(tmp_path, method, shape):
    state = make_vit(**PLAIN).state_dict() | {"pos_embed": torch.zeros(shape)}
    frames = {"num_frames": 2} if method == "mavil" else {}
    with pytest.raises(CheckpointError, match=r"pos_embed has shape"):
        create_model(f"{method}_tiny", init=str(save(state, tmp_path)), **NETWORK, **frames)


def test_a_class_token_without_a_position_is_believed_when_said(tmp_path):
    path = save(make_vit(no_embed_class=True).state_dict(), tmp_path)
    model = create_model("avsiam_tiny", **NETWORK)
    with pytest.raises(CheckpointError, match="--allow pos_embed"):
        load_image_weights(model, str(path), method="avsiam", size="tiny")
    report = load_image_weights(model, str(path), method="avsiam", size="tiny", allow=["pos_embed"])
    assert report.allowed == ["pos_embed"]


@pytest.mark.slow
def test_a_named_exception_is_allowed_and_recorded(tmp_path):
    path = save(make_vit(**PLAIN, init_values=0.1).state_dict(), tmp_path)
    settings = [f"--set={key}={value}" for key, value in NETWORK.items()]
    command = ["convert", path, tmp_path / "made", "--model=avsiam_tiny", "--from=image", *settings]
    command = [*map(str, command), "--allow=blocks.*.ls1.gamma"]
    with pytest.raises(SystemExit, match=r"2 unused: blocks\.0\.ls2\.gamma, blocks\.1"):
        main(command)
    main([*command, "--allow=blocks.*.ls2.gamma"])
    report = json.loads((tmp_path / "made/conversion.json").read_text())
    assert report["allowed"] == ["blocks.*.ls1.gamma", "blocks.*.ls2.gamma"]
    assert "blocks.1.ls2.gamma" in report["unused"]
