"""A training on a GPU asks for batches in page-locked memory; places of shared memory are freed."""

import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from pipeline_src.config import PretrainConfig
from pipeline_src.config.phases import even_schedule
from pipeline_src.loader import batches as loader_batches
from pipeline_src.loader.batches import training_batches
from pipeline_src.loader.sampler import EpochSampler
from pipeline_src.loader.shared_batches import _POOLS, BorrowedBatch
from pipeline_src.train.clips import training_stream
from pipeline_src.train.decode_failures import DecodeFailures
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.progress import TrainProgress
from tests.unit.loader.test_dataset import make_dataset


class Noted(DataLoader):
    """Keeps what was asked for: without a GPU torch pins nothing."""

    asked: list[bool] = []  # noqa: RUF012

    def __init__(self, *args, pin_memory, **kwargs):
        super().__init__(*args, pin_memory=pin_memory, **kwargs)
        self.asked.append(pin_memory)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator")
@pytest.mark.parametrize(("device", "pins"), [("cuda", True), ("cpu", False)])
def test_batches_of_a_training_on_a_gpu_are_pinned(tmp_path, monkeypatch, device, pins):
    monkeypatch.setattr(loader_batches, "DataLoader", Noted)
    monkeypatch.setattr(Noted, "asked", [])
    dataset = make_dataset(tmp_path)
    progress = TrainProgress(0, even_schedule(len(dataset), 4, epochs=2))
    recipe = PretrainConfig(num_workers=0)
    ranks = Ranks(0, 1, torch.device(device))
    failures = DecodeFailures(dataset.shards, 0, ranks)
    with training_stream(dataset, None, recipe, progress, ranks, failures):
        assert Noted.asked == [pins]


@pytest.mark.slow
def test_pinning_copies_a_borrowed_batch_and_frees_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    dataset = make_dataset(tmp_path)
    sampler = EpochSampler(len(dataset), even_schedule(len(dataset), 4, epochs=2), seed=2)
    with training_batches(dataset, sampler, first_step=0, last_step=2, num_workers=1) as batches:
        borrowed = batches.next_item()
        assert isinstance(borrowed, BorrowedBatch)
        pool, place = _POOLS[borrowed.pool], (borrowed.worker, borrowed.place)
        shown = {name: value.clone() for name, value in borrowed.tensors().items()}
        assert pool.is_taken[place]
        pinned = pin_memory(borrowed)  # as the loader's own thread calls it
        assert not pool.is_taken[place]
        for value in pool.batch(borrowed).values():
            value.zero_()
    assert all(torch.equal(pinned[name], value) for name, value in shown.items())
    assert pinned["frames"].any()
