"""Checkpoints are whole or absent, load exactly, and say what does not fit."""

import json

import pytest
import torch
from torch import nn

from pipeline_src.errors import CheckpointError
from pipeline_src.runs.checkpoint import (
    load_matching,
    load_optimizers,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)


def make_model(seed: int = 0, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))


def train_step(model, optimizers, seed):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    for optimizer in optimizers.values():
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def make_optimizers(model):
    return {name: torch.optim.AdamW(model.parameters(), lr=0.1) for name in ("contrast", "mae")}


def save(folder, step, model, keep=10, fingerprint="f"):
    state = {"step": step, "fingerprint": fingerprint}
    return save_checkpoint(folder, model, make_optimizers(model), state, keep=keep)


def test_training_continues_from_a_checkpoint_as_if_never_stopped(tmp_path):
    model = make_model()
    optimizers = make_optimizers(model)
    train_step(model, optimizers, 1)
    folder = save_checkpoint(tmp_path, model, optimizers, {"step": 1, "fingerprint": "f"}, keep=2)
    train_step(model, optimizers, 2)

    resumed = make_model(seed=9)
    resumed_optimizers = make_optimizers(resumed)
    checkpoint = read_checkpoint(folder)
    load_weights(checkpoint, resumed)
    load_optimizers(checkpoint, resumed, resumed_optimizers)
    train_step(resumed, resumed_optimizers, 2)
    for ours, theirs in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, step, make_model(), keep=2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step_00000002", "step_00000010"]


def test_a_half_written_or_damaged_checkpoint_is_passed_over(tmp_path):
    save(tmp_path, 1, make_model())
    damaged = save(tmp_path, 2, make_model())
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (tmp_path / "step_00000003").mkdir()
    found = newest_checkpoint(tmp_path, "f")
    assert found is not None
    assert found.step == 1
    with pytest.raises(CheckpointError, match=r"model\.safetensors: missing or damaged"):
        read_checkpoint(damaged)


def test_a_checkpoint_of_another_configuration_is_not_resumed(tmp_path):
    save(tmp_path, 1, make_model(), fingerprint="old")
    assert newest_checkpoint(tmp_path, "new") is None


def test_keys_that_do_not_fit_are_named(tmp_path):
    checkpoint = read_checkpoint(save(tmp_path, 1, make_model(width=4)))
    with pytest.raises(CheckpointError, match=r"0\.weight has shape \(4, 3\), the model \(5, 3\)"):
        load_weights(checkpoint, make_model(width=5))
    bigger = nn.Sequential(*make_model(), nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=r"missing 2\.weight"):
        load_weights(checkpoint, bigger)
    assert load_matching(checkpoint, bigger, allowed_missing=("2.",)) == ["2.weight", "2.bias"]
    smaller = nn.Sequential(make_model()[0])
    with pytest.raises(CheckpointError, match=r"unexpected 1\.weight"):
        load_weights(checkpoint, smaller)
    assert load_matching(checkpoint, smaller, allowed_unused=("1.",)) == []


def test_state_names_the_hashes_of_its_files(tmp_path):
    state = json.loads((save(tmp_path, 1, make_model()) / "state.json").read_text())
    assert set(state["sha256"]) == {"model.safetensors", "optimizer.safetensors"}
