"""The registry of methods: every record is whole, and an unknown name says what is known."""

import inspect
import subprocess
import sys

import pytest
import torch

from pipeline_src.config import PretrainConfig
from pipeline_src.errors import ConfigError
from pipeline_src.methods import METHODS, MODEL_NAMES, find_method, make_network_config, split_name
from pipeline_src.methods.common.config import SIZES
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.factory import create_model
from pipeline_src.train.objective import pretrain_objective
from tests.networks import SMALL, ratios_of


@pytest.mark.parametrize("name", METHODS)
def test_a_record_names_what_is_there(name):
    method = find_method(name)
    assert issubclass(method.load_network(), AudioVisualModel)
    model, *names = inspect.signature(method.load_objective()).parameters
    assert model == "model"
    known = {*PretrainConfig.model_fields, *type(PretrainConfig().mavil).model_fields, "teacher"}
    assert set(names) <= known
    assert "reconstruct_ratio" not in names  # a ratio is the step's
    for variant, sizes in method.config.variants.items():
        assert set(sizes) <= set(SIZES), variant
    weights, published = method.load_image_weights(), method.load_published()
    assert weights is None or set(weights.timm_names) <= set(SIZES)
    assert published is None or published.signature


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_a_step(name):
    torch.manual_seed(0)
    model = create_model(f"{name}_tiny", **SMALL, num_frames=2)
    objective = pretrain_objective(name, model, PretrainConfig())
    generator = torch.Generator().manual_seed(0)
    plan = objective.draw(6, ratios_of(objective), generator)
    batch = {
        "logmel": torch.randn(6, 24, 16, generator=generator),
        "frames": torch.randn(6, 2, 3, 16, 16, generator=generator),
    }
    for step_pass in objective.passes:
        loss = objective(batch, plan, step_pass)["loss"]
        assert loss.isfinite()
        loss.backward()
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_an_unknown_method_is_told_the_known_ones():
    known = rf"did you mean 'avsiam'\?; allowed: {', '.join(METHODS)}"
    with pytest.raises(ConfigError, match=f"method 'avsaim' is unknown; {known}"):
        find_method("avsaim")
    with pytest.raises(ConfigError, match=r"did you mean 'mavil_base'\?; allowed: avsiam_tiny, "):
        split_name("mavil_bse")
    with pytest.raises(ConfigError, match="variant 'papr' is unknown; allowed: paper, released"):
        make_network_config("avsiam_base", variant="papr")


def test_every_name_of_a_model_is_built_of_a_method_and_a_size():
    assert [split_name(name) for name in MODEL_NAMES] == [(m, s) for m in METHODS for s in SIZES]


@pytest.mark.slow
def test_the_records_need_no_torch():
    program = (
        "import sys; from pipeline_src.methods import *; "
        "[make_network_config(name) for name in MODEL_NAMES]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_every_network_computes_in_other_types(name, dtype):
    """On a CPU the attention's fp32 met weights of another type."""
    logmel, frames = torch.randn(2, 24, 16), torch.randn(2, 4, 3, 16, 16)
    for num_classes in (0, 3):
        torch.manual_seed(0)
        model = create_model(f"{name}_tiny", **SMALL, num_frames=2, num_classes=num_classes).eval()
        outputs = []
        for one in (torch.float32, dtype):
            model.to(one)
            with torch.no_grad():
                pooled = model(logmel.to(one), frames.to(one))
                scores = model.forward_heads(logmel.to(one), frames.to(one)) if num_classes else {}
                outputs.append({**pooled, **scores, **{
                    f"{key} compared": value
                    for key, value in model.project_for_contrast(pooled).items()
                }})  # fmt: skip
        exact, other = outputs
        assert exact.keys() == other.keys() >= {"audio", "video"}
        for key, value in exact.items():
            torch.testing.assert_close(other[key].float(), value, rtol=0.1, atol=0.1)
