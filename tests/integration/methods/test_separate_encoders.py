"""AVSiam with a stack of blocks per modality, the arm that the shared stack is compared with."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline_src.errors import ConfigError
from pipeline_src.methods import MaskRatios
from pipeline_src.methods.common.convert import to_published
from pipeline_src.methods.factory import create_model
from tests.objectives import avsiam_objective
from tests.unit.methods.common.test_network import SMALL, make_inputs, make_model


def pretraining_loss(model, step_pass, **options):
    logmel, frames = make_inputs(4)
    objective = avsiam_objective(model, **options)
    plan = objective.draw(4, MaskRatios(0.75, 0.75, (0.0, 0.5)), torch.Generator().manual_seed(0))
    return objective({"logmel": logmel, "frames": frames}, plan, step_pass)["loss"]


def without_gradient(model):
    names = [name for name, p in model.vit_base.named_parameters() if p.grad is None]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("step_pass", ["contrast", "reconstruct"])
def test_each_modality_trains_its_own_blocks(step_pass):
    model = make_model(encoders="separate")
    pretraining_loss(model, step_pass).backward()
    assert without_gradient(model) == set()
    model.zero_grad()
    model.encode_audio(make_inputs()[0]).square().sum().backward()
    assert without_gradient(model) == {"patch_embed", "pos_embed", "blocks", "norm"}


def test_equal_stacks_compute_what_the_shared_one_does():
    shared, separate = make_model(), make_model(encoders="separate")
    state = shared.state_dict()
    blocks = {k: v for k, v in state.items() if k.startswith("vit_base.blocks.")}
    state |= {k.replace(".blocks.", ".blocks_a."): v for k, v in blocks.items()}
    separate.load_state_dict({key: state[key] for key in separate.state_dict()})
    for packed in ("never", "always"):
        losses = [pretraining_loss(m, "joint", pack_sequences=packed) for m in (shared, separate)]
        assert torch.equal(*losses)


def test_both_stacks_start_from_the_image_network(tmp_path):
    size = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    source = timm.models.VisionTransformer(**size).state_dict()
    save_file(source, tmp_path / "vit.safetensors")
    path = str(tmp_path / "vit.safetensors")
    model = create_model("avsiam_tiny", init=path, encoders="separate", **SMALL)
    for blocks in (model.vit_base.blocks, model.vit_base.blocks_a):
        assert torch.equal(blocks[1].mlp.fc1.weight, source["blocks.1.mlp.fc1.weight"])
    assert torch.equal(model.mm_layer_1.attn.qkv.weight, source["blocks.0.attn.qkv.weight"])
    assert model.layer_id("vit_base.blocks_a.1.attn.qkv.weight") == 2


def test_it_doubles_the_blocks_and_has_no_published_form():
    shared, separate = make_model(), make_model(encoders="separate")
    num_blocks, num_all = (
        sum(p.numel() for name, p in shared.named_parameters() if part in name)
        for part in ("vit_base.blocks.0.attn", "vit_base.blocks.0.")
    )
    assert num_blocks < num_all
    per_stack = 2 * (num_all - 4 * 2 * SMALL["embed_dim"])  # the norms were there twice before
    sizes = [sum(p.numel() for p in model.parameters()) for model in (shared, separate)]
    assert sizes[1] - sizes[0] == per_stack
    with pytest.raises(ConfigError, match="encoders=separate: no published class"):
        to_published(separate.state_dict(), "avsiam_tiny", separate)
    with pytest.raises(ConfigError, match="audio_vit must be shared"):
        make_model(encoders="separate", audio_vit="separate")


def test_large_has_the_published_sizes_and_ratio():
    """Second-hand from arXiv:2403.19638: 332 M shared, 640 M separate; memory 10.9 and 20.6 GB."""
    with torch.device("meta"):
        models = [
            create_model("avsiam_large", num_classes=309, encoders=encoders)
            for encoders in ("shared", "separate")
        ]
    shared, separate = (sum(p.numel() for p in model.parameters()) for model in models)
    assert shared == pytest.approx(332e6, rel=0.01)
    assert separate == pytest.approx(640e6, rel=0.02)
    assert shared / separate <= 0.53
