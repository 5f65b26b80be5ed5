"""Checkpoints are whole or absent, load exactly, and say what does not fit."""

import json

import pytest
import torch
from torch import nn

from pipeline_src.config import FinetuneConfig, ModelConfig, PretrainConfig
from pipeline_src.errors import CheckpointError
from pipeline_src.runs.build import restore_model, trained_network_config
from pipeline_src.runs.checkpoint import (
    Checkpoint,
    load_matching,
    load_optimizers,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from pipeline_src.runs.done import read_done, write_done
from pipeline_src.runs.history import write_history
from pipeline_src.runs.spec import TrainSpec, saved_progress

TINY = ModelConfig(method="avsiam", size="tiny")


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


def finished(run_dir, step=4):
    """A training that has ended at ``step``."""
    provenance = {"config_sha256": "c", "data_sha256": "d", "seed": 0}
    clock = {"step": step, "samples_seen": 8, "seconds": 1.0, "fingerprint": "f"}
    state = {**clock, **provenance, "git_commit": "g", "versions": {}}
    model = make_model(seed=step)
    folder = save_checkpoint(run_dir / "checkpoints", model, make_optimizers(model), state, keep=2)
    return write_done(run_dir, read_checkpoint(folder), {"loss": 1.0}, None)


def test_the_published_checkpoint_keeps_its_path_and_holds_no_optimiser(tmp_path):
    for step in (4, 9):
        done = finished(tmp_path, step)
        checkpoint = read_done(done)
        assert checkpoint.folder == tmp_path / "checkpoint"
        assert checkpoint.step == step
        names = {path.name for path in checkpoint.folder.iterdir()}
        assert names == {"model.safetensors", "state.json"}
        assert set(checkpoint.state["sha256"]) == {"model.safetensors"}
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint", "checkpoints", "done.json"}
    newest = newest_checkpoint(tmp_path / "checkpoints", "f")
    assert newest is not None
    assert (newest.folder / "optimizer.safetensors").is_file()


def test_a_checkpoint_that_was_replaced_is_refused(tmp_path):
    done = finished(tmp_path / "a")
    other = finished(tmp_path / "b", step=5)
    (tmp_path / "a/checkpoint").rename(tmp_path / "old")
    (other.parent / "checkpoint").rename(tmp_path / "a/checkpoint")
    with pytest.raises(CheckpointError, match="not the checkpoint that"):
        read_done(done)


def test_what_a_killed_publication_left_is_removed(tmp_path):
    left = tmp_path / ".checkpoint.1.part"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    read_done(finished(tmp_path))
    assert not left.exists()


def test_curves_become_tables_that_dvc_can_plot(tmp_path):
    rows = [
        {"step": 1, "num_steps": 2, "seconds": 0.1, "loss": 3.0},
        {"step": 2, "num_steps": 2, "seconds": 0.2, "loss": 2.0, "lr": 0.1},
    ]
    write_history(tmp_path / "history.csv", rows)
    assert (tmp_path / "history.csv").read_text() == "step,loss,lr\n1,3.0,\n2,2.0,0.1\n"
    write_history(tmp_path / "validation.csv", [{"step": 2, "val": {"audio": 0.5}}])
    assert (tmp_path / "validation.csv").read_text() == "step,audio\n2,0.5\n"


def test_a_damaged_later_checkpoint_neither_counts_nor_costs_the_newest(tmp_path):
    run_dir, model = tmp_path, make_model()
    parent = run_dir / "checkpoints"
    state = {"fingerprint": "f", "num_steps": 20}
    for step in (5, 9):
        save_checkpoint(parent, model, make_optimizers(model), {**state, "step": step}, keep=1)
    (parent / "step_00000009/state.json").write_text("{")
    assert saved_progress(run_dir, "f") == (0, 1)
    save_checkpoint(parent, model, make_optimizers(model), {**state, "step": 6}, keep=1)
    assert [path.name for path in parent.iterdir()] == ["step_00000006"]
    assert saved_progress(run_dir, "f") == (6, 20)
    assert saved_progress(run_dir, "other") == (0, 1)


@pytest.mark.parametrize("spec", [None, [], {}, {"stage": []}, {"stage": "pretrain", "recipe": 1}])
def test_a_state_without_a_spec_is_refused_in_a_sentence(tmp_path, spec):
    with pytest.raises(CheckpointError, match=r"state\.json: spec: [^:].*; use the version"):
        restore_model(Checkpoint(tmp_path, {"spec": spec}))


def test_a_training_that_names_a_start_and_uses_none_is_still_read(tmp_path):
    """A configuration may not ask for both; the state of one that did is no less whole."""
    recipe = FinetuneConfig(init="scratch", checkpoint_run="other")
    spec = TrainSpec(stage="finetune", run_dir=tmp_path, model=TINY, recipe=recipe)
    assert Checkpoint(tmp_path, {"spec": spec.model_dump(mode="json")}).spec == spec


@pytest.mark.parametrize("recipe", [PretrainConfig(), FinetuneConfig()])
@pytest.mark.parametrize("use", [restore_model, trained_network_config, lambda one: one.spec])
def test_a_state_of_another_version_is_refused_in_a_sentence(tmp_path, use, recipe):
    """Every use ended with pydantic's traceback, a line for each key that it does not know."""
    stage = "finetune" if isinstance(recipe, FinetuneConfig) else "pretrain"
    spec = TrainSpec(stage=stage, run_dir=tmp_path, model=TINY, recipe=recipe)
    values = spec.model_dump(mode="json")
    values["recipe"] |= {"of_tomorrow": 1, "another": 2}
    checkpoint = Checkpoint(tmp_path, {"spec": values})
    with pytest.raises(CheckpointError) as refused:
        use(checkpoint)
    said = str(refused.value)
    assert "spec: recipe.of_tomorrow: " in said
    assert "use the version that wrote it" in said
    assert "\n" not in said
