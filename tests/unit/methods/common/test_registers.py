"""Register tokens, a field of every method: seen by all tokens of a modality, returned by none."""

import pytest
import torch

from pipeline_src.config import PretrainConfig
from pipeline_src.methods import METHODS
from pipeline_src.methods.factory import create_model
from pipeline_src.train.objective import pretrain_objective
from tests.networks import RATIOS, SMALL, ratios_of

FRAMES = {"num_frames": 2}


def make_model(method, num_registers=3, **overrides):
    torch.manual_seed(0)
    values = {**SMALL, **FRAMES, "num_registers": num_registers, **overrides}
    return create_model(f"{method}_tiny", **values)


def make_batch():
    generator = torch.Generator().manual_seed(0)
    return {
        "logmel": torch.randn(6, 24, 16, generator=generator),
        "frames": torch.randn(6, 2, 3, 16, 16, generator=generator),
    }


def registers_of(model):
    return [p for name, p in model.named_parameters() if name.endswith("register_tokens")]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_them_by_its_configuration(method):
    model, batch = make_model(method).eval(), make_batch()
    assert sum(len(tokens) for tokens in registers_of(model)) == 6
    assert not registers_of(make_model(method, num_registers=0))
    before = model.encode_audio(batch["logmel"])
    assert before.shape[1] == model.num_audio_tokens
    assert model.encode_video(batch["frames"]).shape[1] == model.num_video_tokens
    with torch.no_grad():
        for tokens in registers_of(model):
            tokens += 1
    assert not torch.allclose(model.encode_audio(batch["logmel"]), before)


@pytest.mark.parametrize("method", METHODS)
def test_they_train(method):
    objective = pretrain_objective(method, make_model(method), PretrainConfig())
    plan = objective.draw(6, ratios_of(objective), torch.Generator().manual_seed(0))
    for step_pass in objective.passes:
        objective(make_batch(), plan, step_pass)["loss"].backward()
    assert all(tokens.grad.abs().sum() > 0 for tokens in registers_of(objective.model))


def test_sequences_that_are_packed_have_them_too():
    model, batch = make_model("avsiam").eval(), make_batch()
    objective = pretrain_objective("avsiam", model, PretrainConfig())
    plan = objective.draw(6, RATIOS, torch.Generator().manual_seed(0))
    chunks = (plan.audio_chunks, plan.video_chunks)
    with torch.no_grad():
        dense = model.forward_contrast(batch["logmel"], batch["frames"], *chunks)
        packed = model.forward_contrast(batch["logmel"], batch["frames"], *chunks, packed=True)
    for ours, theirs in zip(packed, dense, strict=True):
        torch.testing.assert_close(ours, theirs)
