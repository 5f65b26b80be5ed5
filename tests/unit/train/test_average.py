"""Averaged weights: the mean of the epochs' last weights, the same whatever happened in between."""

import itertools

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch import nn

from pipeline_src.config.phases import even_schedule
from pipeline_src.errors import CheckpointError
from pipeline_src.runs.checkpoint import (
    load_optimizers,
    load_sums,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from pipeline_src.runs.done import read_done, write_done
from pipeline_src.runs.sharded import gather
from pipeline_src.train.average import WeightAverage, epoch_end_steps
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.loop import train
from pipeline_src.train.parallel import shard_model
from pipeline_src.train.progress import TrainProgress
from pipeline_src.train.stop import StopFlag
from tests.unit.train.test_loop import Noisy, batches, make_learner, make_run

pytestmark = pytest.mark.slow

NUM_STEPS, STEPS_PER_EPOCH = 12, 3
STEPS = epoch_end_steps((2, 4), steps_per_epoch=STEPS_PER_EPOCH, num_steps=NUM_STEPS)
STATE = {
    "fingerprint": "f", "config_sha256": "c", "data_sha256": "d", "seed": 0,
    "git_commit": "g", "versions": {},
}  # fmt: skip


def run_on(folder, *, stop_at=NUM_STEPS, snapshots=None):
    """Train to ``stop_at`` from the newest checkpoint; keep the weights after each step."""
    objective = Noisy()
    average = WeightAverage(STEPS)

    def keep_weights():
        if snapshots is not None:
            snapshots.append({k: v.clone() for k, v in objective.state_dict().items()})
        return {"seen": 1.0}

    run = make_run(
        folder,
        objective,
        state=STATE,
        learner=make_learner(objective, average=average),
        validate=keep_weights,
        validate_every_steps=1,
    )
    progress = TrainProgress(0, even_schedule(STEPS_PER_EPOCH, 1, NUM_STEPS / STEPS_PER_EPOCH))
    if checkpoint := newest_checkpoint(folder / "checkpoints", "f"):
        load_weights(checkpoint, objective)
        load_optimizers(checkpoint, objective, run.learner.optimizers)
        average.restore(checkpoint, objective)
        progress.step = checkpoint.step
    stream = itertools.islice(batches(progress.step), stop_at - progress.step)
    try:
        train(run, stream, progress, StopFlag())
    except StopIteration:
        return None
    return write_done(folder, newest_checkpoint(folder / "checkpoints", "f"), {}, None)


def published_bytes(done):
    return (read_done(done).folder / "model.safetensors").read_bytes()


def test_the_result_is_the_mean_of_the_epochs_last_weights(tmp_path):
    snapshots = []
    done = run_on(tmp_path, snapshots=snapshots)
    assert STEPS == [6, 9, 12]
    result = load_file(read_done(done).folder / "model.safetensors")
    assert result.keys() == snapshots[0].keys()
    for name, value in result.items():
        terms = torch.stack([snapshots[step - 1][name] for step in STEPS])
        torch.testing.assert_close(value, terms.mean(0), rtol=1e-6, atol=0)
        assert not torch.allclose(value, terms[-1], rtol=1e-3)
    newest = newest_checkpoint(tmp_path / "checkpoints", "f")
    last = load_file(newest.folder / "model.safetensors")  # what a longer training continues from
    assert torch.equal(last["linear.weight"], snapshots[-1]["linear.weight"])


@pytest.mark.parametrize("stop_at", [5, 6, 7, 11, 12])
def test_killed_and_resumed_gives_the_same_bytes(tmp_path, stop_at):
    whole = published_bytes(run_on(tmp_path / "whole"))
    run_on(tmp_path / "parts", stop_at=stop_at)
    assert published_bytes(run_on(tmp_path / "parts")) == whole


def test_without_epochs_the_last_weights_are_the_result(tmp_path):
    model = Noisy()
    average = WeightAverage()
    average.add(model, 1)
    state = {**STATE, "step": 1, "samples_seen": 4, "seconds": 0.0, "num_averaged": 0}
    folder = save_checkpoint(tmp_path / "c", model, {}, state, keep=1, sums=average.sums)
    assert not (folder / "average.safetensors").exists()
    checkpoint = read_checkpoint(folder)
    done = write_done(tmp_path, checkpoint, {}, None)
    assert published_bytes(done) == (folder / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=r"no average\.safetensors"):
        load_sums(checkpoint)


def test_ends_of_epochs_are_steps_of_the_run():
    assert epoch_end_steps((), steps_per_epoch=3, num_steps=9) == []
    assert epoch_end_steps((1, 3), steps_per_epoch=2.5, num_steps=8) == [2, 5, 8]
    # Epochs shorter than a step: the step counts once for each.
    ends = epoch_end_steps((1, 5), steps_per_epoch=0.4, num_steps=2)
    assert ends == [1, 1, 1, 2, 2]
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(ends)
    for step in (1, 2):
        nn.init.constant_(model.weight, float(step))
        average.add(model, step)
    assert average.num_terms(2) == 5
    assert average.sums["weight"].item() == 3 * 1 + 2 * 2


def _average_on_one_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    shard_model(model, Ranks(rank, 2, torch.device("cpu")))
    average = WeightAverage([1, 2])
    for step in (1, 2):
        with torch.no_grad():
            model.weight.mul_(2)
        average.add(model, step)
    state = {"step": 2, "fingerprint": "f", "num_averaged": 2}
    saved = save_checkpoint(
        folder / "c", model, {}, state, keep=1, writes=rank == 0, sums=average.sums
    )
    dist.barrier()
    restored = WeightAverage([1, 2])
    restored.restore(read_checkpoint(saved), model)
    torch.save(gather(restored.sums.items(), keeps=True), folder / f"sums{rank}.pt")
    dist.destroy_process_group()


def test_ranks_with_a_part_of_each_tensor_sum_their_parts(tmp_path):
    mp.spawn(_average_on_one_rank, args=(tmp_path,), nprocs=2)
    torch.manual_seed(0)
    start = nn.Linear(3, 4).state_dict()
    for rank in (0, 1):
        sums = torch.load(tmp_path / f"sums{rank}.pt", weights_only=True)
        assert torch.equal(sums["weight"], 2 * start["weight"] + 4 * start["weight"])
        assert torch.equal(sums["bias"], start["bias"] + start["bias"])
