"""Clips from real shards: shapes, normalisation, frame choice, and order whatever the workers."""

import io
import json
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_src.config.phases import even_schedule
from pipeline_src.errors import ManifestError
from pipeline_src.loader.batches import evaluation_batches, to_device, training_batches
from pipeline_src.loader.clip_format import ClipFormat, even_frames
from pipeline_src.loader.dataset import IMAGE_MEAN, IMAGE_STD, ClipDataset
from pipeline_src.loader.decode import decode_frame
from pipeline_src.loader.sampler import Draw, EpochSampler
from pipeline_src.shards.samples import Sample
from pipeline_src.shards.shard_set import ShardSet

CPU = torch.device("cpu")
NUM_STORED, LENGTH, MELS = 6, 20, 8


class MemoryReader:
    """Samples whose content is a function of their key: log-mel = number, frame k = level 10 k."""

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Nothing is remote."""

    def read(self, sample: Sample) -> dict[str, memoryview]:
        """The members of one sample."""
        logmel = io.BytesIO()
        rows = np.arange(LENGTH, dtype=np.float16)[:, None] + np.zeros((1, MELS), np.float16)
        np.save(logmel, rows)
        members = {"logmel.npy": logmel.getvalue(), "json": json.dumps({}).encode()}
        for k in range(NUM_STORED):
            jpeg = io.BytesIO()
            Image.new("RGB", (16, 16), (10 * k,) * 3).save(jpeg, "JPEG", quality=95)
            members[f"frame_{k:02d}.jpg"] = jpeg.getvalue()
        return {name: memoryview(bytearray(content)) for name, content in members.items()}


def make_dataset(tmp_path, *, num_clips=7, replaces=False, **changes):
    samples = [Sample(tmp_path, f"k{i}", 0, 0, (i % 3,), f"clip{i}") for i in range(num_clips)]
    shards = ShardSet(samples, "multiclass", ("a", "b", "c"), MELS, 2.0, 4.0)
    values = {
        "target_length": 24, "img_size": 16, "num_frames": 3, "logmel_mean": 2.0,
        "logmel_std": 4.0, "training": True, "seed": 1,
    }  # fmt: skip
    dataset = ClipDataset(shards, ClipFormat(**{**values, **changes}), replaces=replaces)
    dataset._reader = MemoryReader()
    return dataset


def frame_levels(item):
    return (item["frames"].float().mean((1, 2, 3)) / 10).round().int().tolist()


def test_a_short_logmel_is_padded_before_normalisation(tmp_path):
    dataset = make_dataset(tmp_path)
    item = dataset[Draw(0, 0)]
    assert item["logmel"].dtype == torch.float16
    logmel = to_device(item, CPU, dataset.format)["logmel"]
    assert logmel.shape == (24, MELS)
    assert logmel.dtype == torch.float32
    assert logmel[5, 0] == pytest.approx((5 - 2) / 4)
    assert logmel[-1, 0] == pytest.approx(-2 / 4)


def test_a_long_logmel_is_cut_at_random_in_training_and_at_the_end_otherwise(tmp_path):
    training = make_dataset(tmp_path, target_length=8)
    starts = {float(training[Draw(0, position)]["logmel"][0, 0]) for position in range(40)}
    assert len(starts) > 5
    assert make_dataset(tmp_path, target_length=8, training=False)[Draw(0, 3)]["logmel"][0, 0] == 0


def test_training_takes_one_random_frame_from_each_span(tmp_path):
    dataset = make_dataset(tmp_path)
    choices = {tuple(frame_levels(dataset[Draw(0, position)])) for position in range(60)}
    assert len(choices) == 8
    assert all(a in (0, 1) and b in (2, 3) and c in (4, 5) for a, b, c in choices)


def test_evaluation_frames_are_fixed_and_even(tmp_path):
    dataset = make_dataset(tmp_path, training=False)
    assert frame_levels(dataset[Draw(0, 0)]) == frame_levels(dataset[Draw(0, 9)]) == [1, 3, 5]
    assert even_frames(10, 1) == [5]
    assert even_frames(10, 10) == list(range(10))
    assert even_frames(2, 4) == [0, 0, 1, 1]


def test_a_clip_depends_on_its_place_in_the_stream_only(tmp_path):
    dataset = make_dataset(tmp_path, target_length=8)
    for name, value in dataset[Draw(2, 11)].items():
        assert torch.equal(value, make_dataset(tmp_path, target_length=8)[Draw(2, 11)][name])


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_with_and_without_workers(tmp_path, num_workers):
    dataset = make_dataset(tmp_path)
    sampler = EpochSampler(len(dataset), even_schedule(len(dataset), 4, epochs=9), seed=2)
    batches = training_batches(dataset, sampler, first_step=3, last_step=6, num_workers=num_workers)
    expected = [[draw.index for draw in sampler.batch(step)] for step in (3, 4, 5)]
    assert [batch["index"].tolist() for batch in batches] == expected


@pytest.mark.slow
def test_places_are_used_again_and_no_batch_is_lost(tmp_path):
    dataset = make_dataset(tmp_path, target_length=8)
    sampler = EpochSampler(len(dataset), even_schedule(len(dataset), 4, epochs=40), seed=2)
    steps = {"first_step": 0, "last_step": 60}
    slow = training_batches(dataset, sampler, **steps, num_workers=2, prefetch=2)
    seen = []
    for number, batch in enumerate(slow):
        if number < 3:
            time.sleep(0.2)  # both processes have filled every place
        seen.append(to_device(batch, CPU, dataset.format))
    alone = [
        to_device(batch, CPU, dataset.format)
        for batch in training_batches(dataset, sampler, **steps, num_workers=0)
    ]
    assert len(seen) == len(alone) == 60
    for ours, expected in zip(seen, alone, strict=True):
        assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_evaluation_sees_each_clip_once_over_all_ranks(tmp_path):
    dataset = make_dataset(tmp_path, training=False)
    seen = [
        index
        for rank in range(3)
        for batch in evaluation_batches(
            dataset, batch_size=2, num_workers=0, rank=rank, world_size=3
        )
        for index in batch["index"].tolist()
    ]
    assert sorted(seen) == list(range(7))


@pytest.mark.parametrize("member", ["frame_04.jpg", "logmel.npy"])
def test_a_clip_that_cannot_be_decoded_is_an_error_that_names_it(tmp_path, member):
    dataset = make_dataset(tmp_path, num_frames=NUM_STORED)

    class Damaged(MemoryReader):
        def read(self, sample):
            return {**super().read(sample), member: memoryview(bytearray(b"not what it was"))}

    dataset._reader = Damaged()
    with pytest.raises(ManifestError, match="clip 'clip2' cannot be decoded"):
        dataset[Draw(2, 0)]


class DamagedReader(MemoryReader):
    """Clips 1 and 5 hold no log-mel."""

    damaged = ("k1", "k5")

    def read(self, sample):
        members = super().read(sample)
        return (
            {**members, "logmel.npy": memoryview(b"torn")}
            if sample.key in self.damaged
            else members
        )


@pytest.mark.slow
def test_a_clip_that_cannot_be_decoded_is_replaced_by_place_alone(tmp_path):
    def draw_all(num_workers, ranks, first_step=0, last_step=21):
        dataset = make_dataset(tmp_path, target_length=8, replaces=True)
        dataset._reader = DamagedReader()
        table = even_schedule(len(dataset), 6, epochs=18)
        for rank in range(ranks):
            sampler = EpochSampler(len(dataset), table, seed=2, rank=rank, world_size=ranks)
            batches = training_batches(
                dataset,
                sampler,
                first_step=first_step,
                last_step=last_step,
                num_workers=num_workers,
            )
            for number, batch in enumerate(batches, start=first_step):
                yield number, rank, batch["index"].tolist(), batch["decode_failures"].tolist()

    alone = sorted(draw_all(0, 1))
    shown = [index for _, _, indices, _ in alone for index in indices]
    assert set(shown) == {0, 2, 3, 4, 6}
    noted = [index for *_, rows in alone for row in rows for index in row]
    assert set(noted) == {1, 5, -1}
    counts = [sum(draw != -1 for draw in row) for *_, rows in alone for row in rows]
    assert sum(counts) >= 36 - 4  # each of both clips once in each of 18 epochs, or more in a row
    assert sorted(draw_all(2, 1)) == alone
    # Stopped at step 10 and continued by three ranks.
    resumed = sorted(draw_all(0, 3, first_step=10))
    for step in range(10, 21):
        shares = [indices for number, _, indices, _ in resumed if number == step]
        assert [index for share in shares for index in share] == alone[step][2]


def test_more_bad_clips_in_a_row_than_chance_allows_are_an_error(tmp_path):
    dataset = make_dataset(tmp_path, replaces=True)
    dataset._reader = DamagedReader()
    dataset._reader.damaged = tuple(f"k{n}" for n in range(7))
    with pytest.raises(ManifestError, match="cannot be decoded"):
        dataset[Draw(2, 0)]


def test_targets_are_one_hot(tmp_path):
    assert make_dataset(tmp_path)[Draw(4, 0)]["targets"].tolist() == [0, 1, 0]


def test_what_a_batch_lends_is_normalised_on_the_device_and_copied(tmp_path):
    batch = {
        "frames": torch.full((1, 1, 3, 2, 2), 255, dtype=torch.uint8),
        "logmel": torch.full((1, 24, MELS), 10.0),  # with mixup it is float32
    }
    moved = to_device(batch, CPU, make_dataset(tmp_path).format)
    for value in batch.values():
        value.zero_()
    expected = (1 - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)
    assert torch.allclose(moved["frames"][0, 0, :, 0, 0], expected)
    assert moved["logmel"].unique().tolist() == [(10 - 2) / 4]


def test_frames_of_another_size_are_resized():
    jpeg = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 100, 50)).save(jpeg, "JPEG", quality=95)
    assert decode_frame(jpeg.getbuffer(), 16).shape == (3, 16, 16)
