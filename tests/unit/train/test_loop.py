"""The loop on a two-parameter objective: schedule, resume, non-finite losses, signals, the log."""

import dataclasses
import itertools
import os
import signal

import pytest
import torch
from torch import nn

from pipeline_src.config import OptimConfig
from pipeline_src.config.phases import even_schedule
from pipeline_src.errors import TrainingError
from pipeline_src.runs.checkpoint import load_optimizers, load_weights, newest_checkpoint
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.learner import Learner
from pipeline_src.train.learning_rate import cosine_with_warmup
from pipeline_src.train.log import read_log
from pipeline_src.train.loop import TrainingRun, saving_interval, train
from pipeline_src.train.optim import layer_lr_factor, make_optimizer, parameter_groups
from pipeline_src.train.progress import TrainProgress
from pipeline_src.train.stop import StopFlag, StopRequestedError

NUM_STEPS = 12


def progress_at(step, num_steps=NUM_STEPS):
    """Four steps of four clips per epoch."""
    return TrainProgress(step, even_schedule(16, 4, num_steps / 4))


class Noisy(nn.Module):
    """Pulls its weight towards the batch plus a random draw of the step."""

    passes = ("one", "two")

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(2, 2)

    @property
    def model(self):
        return self

    def draw(self, batch_size, ratios, generator, device, negative_mask_NN):
        return torch.randn(batch_size, 2, generator=generator)

    def forward(self, batch, plan, step_pass):
        error = (self.linear(batch["x"]) - plan).square().mean()
        return {"loss": error, f"{step_pass}_loss": error}


def make_learner(objective, **overrides):
    groups = parameter_groups(objective.named_parameters(), lambda _: 1.0, 0.01)
    optimizers = {
        name: make_optimizer(groups, lr=0.05, betas=(0.9, 0.95)) for name in objective.passes
    }
    values = {"objective": objective, "forward": objective, "optimizers": optimizers}
    return Learner(**{**values, **overrides})


def make_run(folder, objective, **overrides):
    recipe = OptimConfig(lr=0.05, amp=False, log_every=1, save_every_seconds=1e-6, epochs=1)
    values = {
        "folder": folder,
        "recipe": recipe,
        "learner": make_learner(objective),
        "augment": lambda batch, generator: {
            **batch, "x": batch["x"] + torch.rand(2, generator=generator)
        },
        "validate": None,
        "validate_every_steps": 5,
        "describe": lambda indices: [f"clip{i}" for i in indices.tolist()],
        "state": {"fingerprint": "f"},
        "ranks": Ranks(0, 1, torch.device("cpu")),
    }  # fmt: skip
    return TrainingRun(**{**values, **overrides})


def batches(first=0):
    for step in itertools.count(first):
        x = torch.randn(4, 2, generator=torch.Generator().manual_seed(step))
        yield {"x": x, "index": torch.arange(4)}


def losses(folder):
    return [row["loss"] for row in read_log(folder / "metrics.jsonl") if "loss" in row]


def test_a_run_resumed_from_any_checkpoint_has_the_same_loss_curve(tmp_path):
    train(make_run(tmp_path / "whole", Noisy()), batches(), progress_at(0), StopFlag())
    stop_at = 5
    folder = tmp_path / "parts"
    progress = progress_at(0)
    stream = itertools.islice(batches(), stop_at)
    with pytest.raises(StopIteration):
        train(make_run(folder, Noisy()), stream, progress, StopFlag())

    resumed = Noisy()
    run = make_run(folder, resumed)
    checkpoint = newest_checkpoint(folder / "checkpoints", "f")
    assert checkpoint.step == stop_at
    load_weights(checkpoint, resumed)
    load_optimizers(checkpoint, resumed, run.learner.optimizers)
    train(run, batches(stop_at), progress_at(stop_at), StopFlag())
    assert losses(folder) == losses(tmp_path / "whole")
    assert len(losses(folder)) == NUM_STEPS


def test_a_step_runs_each_pass_forward_once(tmp_path):
    objective, passes = Noisy(), []

    def counted(batch, plan, step_pass):
        passes.append(step_pass)
        return objective(batch, plan, step_pass)

    run = make_run(tmp_path, objective, learner=make_learner(objective, forward=counted))
    train(run, batches(), progress_at(0, 3), StopFlag())
    assert passes == ["one", "two"] * 3


def test_rows_after_the_resumed_step_are_dropped(tmp_path):
    train(make_run(tmp_path, Noisy()), batches(), progress_at(0, 8), StopFlag())
    train(make_run(tmp_path, Noisy()), batches(), progress_at(3, 8), StopFlag())
    assert [row["step"] for row in read_log(tmp_path / "metrics.jsonl")] == list(range(1, 9))


def test_a_non_finite_loss_stops_before_the_step_and_names_the_clips(tmp_path):
    objective = Noisy()
    before = [p.clone() for p in objective.parameters()]
    bad = iter([{"x": torch.full((4, 2), float("nan")), "index": torch.arange(4)}])
    with pytest.raises(TrainingError, match=r"step 0: .*nan.*clip0, clip1"):
        train(make_run(tmp_path, objective), bad, progress_at(0, 5), StopFlag())
    for ours, theirs in zip(before, objective.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("bad_step", [3, NUM_STEPS - 1])
def test_a_bad_step_between_two_logged_ones_changes_no_weight_and_is_not_saved(tmp_path, bad_step):
    def spoiled():
        for step, batch in enumerate(batches()):
            yield {**batch, "x": batch["x"] * float("inf")} if step == bad_step else batch

    seldom = OptimConfig(lr=0.05, amp=False, log_every=100, epochs=1)
    objective = Noisy()
    run = make_run(tmp_path / "spoiled", objective, recipe=seldom)
    with pytest.raises(TrainingError, match=rf"step {bad_step}: .*clip0, clip1"):
        train(run, spoiled(), progress_at(0), StopFlag())
    assert newest_checkpoint(tmp_path / "spoiled" / "checkpoints", "f") is None
    assert not losses(tmp_path / "spoiled")

    clean = Noisy()
    run = make_run(tmp_path / "clean", clean, recipe=seldom)
    with StopFlag() as stop, pytest.raises(StopRequestedError):
        train(run, stopped_at(bad_step - 1), progress_at(0), stop)
    for ours, theirs in zip(objective.parameters(), clean.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def stopped_at(last_step):
    """Batches; the signal comes before ``last_step`` is taken, so that step is the last."""
    for step, batch in enumerate(batches()):
        if step == last_step:
            os.kill(os.getpid(), signal.SIGTERM)
        yield batch


def test_a_signal_saves_and_stops(tmp_path):
    def interrupted():
        for step, batch in enumerate(batches()):
            if step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    before = signal.getsignal(signal.SIGTERM)
    with StopFlag() as stop, pytest.raises(StopRequestedError, match="step 4, state saved"):
        train(make_run(tmp_path, Noisy()), interrupted(), progress_at(0), stop)
    assert stop.received == signal.SIGTERM
    assert newest_checkpoint(tmp_path / "checkpoints", "f").step == 4
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("saving", "interval"), [(0.0, 60.0), (3.0, 60.0), (9.0, 180.0), (600.0, 1800.0)]
)
def test_a_state_that_takes_long_to_save_is_saved_less_often(saving, interval):
    assert saving_interval(60.0, saving) == interval


def test_the_time_of_a_save_counts_for_the_next_one(tmp_path, monkeypatch):
    """Of steps of a second, one of them due for saving, a save took ten seconds each time."""
    now, saves = [0.0], []
    monkeypatch.setattr("pipeline_src.train.loop.time.monotonic", lambda: now[0])

    def seconds_long():
        for batch in batches():
            now[0] += 1
            yield batch

    def save(run, progress):
        saves.append(progress.step)
        now[0] += 10
        return tmp_path

    monkeypatch.setattr("pipeline_src.train.loop._save", save)
    run = make_run(tmp_path, Noisy())
    recipe = run.recipe.model_copy(update={"save_every_seconds": 0.3})
    train(dataclasses.replace(run, recipe=recipe), seconds_long(), progress_at(0), StopFlag())
    assert saves == [1, 11, NUM_STEPS]


def test_only_the_rank_that_writes_says_that_a_save_is_due(tmp_path, monkeypatch):
    """The others do not know how long the last one took."""
    asked = []
    monkeypatch.setattr("pipeline_src.train.loop.any_rank", lambda f, _: asked.append(f) or f)
    monkeypatch.setattr("pipeline_src.train.loop._save", lambda run, progress: tmp_path)
    monkeypatch.setattr("pipeline_src.train.loop.mean_over_ranks", lambda values, ranks: {})
    second = dataclasses.replace(
        make_run(tmp_path, Noisy()), ranks=Ranks(1, 2, torch.device("cpu"))
    )
    train(second, batches(), progress_at(0), StopFlag())
    assert asked == [(False, False)] * NUM_STEPS


def test_validation_runs_on_time_and_at_the_end(tmp_path):
    run = make_run(tmp_path, Noisy(), validate=lambda: {"audio": 0.5})
    train(run, batches(), progress_at(0), StopFlag())
    rows = [row for row in read_log(tmp_path / "metrics.jsonl") if "val" in row]
    assert [row["step"] for row in rows] == [5, 10, 12]


def test_the_schedule_warms_up_and_ends_low():
    def rate(step):
        return cosine_with_warmup(step, num_steps=100, warmup_steps=10, peak=1.0, end=0.1)

    values = [rate(step) for step in range(100)]
    assert values[:10] == sorted(values[:10])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[0] == pytest.approx(0.05)
    assert values[-1] == pytest.approx(0.1, abs=1e-3)
    assert max(values) == pytest.approx(1.0, abs=1e-3)


def test_norms_biases_and_positions_are_not_decayed():
    named = [
        ("blocks.0.weight", nn.Parameter(torch.zeros(2, 2))),
        ("blocks.0.bias", nn.Parameter(torch.zeros(2))),
        ("pos_embed_a", nn.Parameter(torch.zeros(1, 2, 2))),
        ("a_token_of_a_new_method", nn.Parameter(torch.zeros(1, 1, 2))),
        ("attn.in_proj_weight", nn.Parameter(torch.zeros(6, 2))),
        ("mlp_head.1.weight", nn.Parameter(torch.zeros(2, 2))),
    ]
    groups = parameter_groups(named, lambda name: 10.0 if "head" in name else 1.0, 0.05)
    found = {(g["lr_factor"], g["weight_decay"]): len(g["params"]) for g in groups}
    assert found == {(1.0, 0.05): 2, (1.0, 0.0): 3, (10.0, 0.05): 1}


def test_layer_decay_counts_from_the_top():
    def factor(layer):
        return layer_lr_factor(layer, num_layers=4, layer_decay=0.5, head=10, fusion=3)

    assert [factor(x) for x in (4, 3, 0, "head", "fusion")] == [1, 0.5, 0.0625, 10, 3]
