"""Compiled blocks: the same numbers, one compilation a kind; and the gradients' limit."""

import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from pipeline_src.methods.common.blocks import Block, run_blocks
from pipeline_src.train.parallel import COMPILED_VARIABLE, clip_gradients, compile_blocks


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no g++ here: install it, as .ci/run does")
def test_compiled_blocks_compute_the_same_and_share_their_code(tmp_path, monkeypatch):
    monkeypatch.setenv(COMPILED_VARIABLE, "")  # so that it is put back
    monkeypatch.delenv(COMPILED_VARIABLE)
    torch.manual_seed(0)
    blocks = nn.ModuleList(Block(16, 2, norms=("audio",)) for _ in range(3))
    x_BLD = torch.randn(2, 5, 16, requires_grad=True)

    def gradients():
        blocks.zero_grad()
        run_blocks(blocks, x_BLD, "audio", recompute=False).square().sum().backward()
        return {name: parameter.grad.clone() for name, parameter in blocks.named_parameters()}

    expected = gradients()
    counters.clear()
    compile_blocks(blocks, tmp_path)
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1
    assert any(path.is_file() for path in tmp_path.rglob("*.py"))


def test_a_gradient_limit_of_zero_clips_nothing():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([parameter], 0) == 5
    assert parameter.grad.tolist() == [3, 4]
    assert clip_gradients([parameter], 1) == 5
    assert parameter.grad.tolist() == pytest.approx([0.6, 0.8])
