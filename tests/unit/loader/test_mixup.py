"""Mixup: the published mixture of sound, picture and labels, from the right second clip."""

import io
import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline_src.config.data import AudioConfig
from pipeline_src.errors import ManifestError
from pipeline_src.loader.batches import evaluation_batches, to_device
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.mixup import Mix, Mixup, read_mixup
from pipeline_src.loader.sampler import Draw
from pipeline_src.logmel.fbank import log_mel
from pipeline_src.shards.shard_set import open_shards
from pipeline_src.transcode.audio import read_flac, to_float
from tests import media
from tests.objectives import published_classifier

pytestmark = pytest.mark.slow

RATE_HZ = 16000
AUDIO = AudioConfig(num_mel_bins=64, high_freq_hz=4000, window_length_ms=20)
CLIPS = (
    {"clip_id": "low", "source": "low.mp4", "labels": "0"},
    {"clip_id": "short", "source": "short.mp4", "labels": "0;1"},
    {"clip_id": "long", "source": "long.mp4", "labels": "2"},
)


@pytest.fixture(scope="module")
def index_path(tmp_path_factory):
    """Three clips of different length and sound."""
    folder = tmp_path_factory.mktemp("mixup")
    media.make_clip(folder / "low.mp4", tone=(0, 0.5))
    media.make_clip(folder / "short.mp4", seconds=0.6, tone=(0.2, 0.6))
    media.make_clip(folder / "long.mp4", seconds=1.5, tone=(1, 1.5))
    return media.make_shards(folder, CLIPS, AUDIO)


@dataclass(frozen=True)
class Fixed(Mixup):
    """Always mixes with clip 2 at a given share."""

    share: float

    def draw(self, num_clips, *, seed, position):
        """The same mixture at every position."""
        return Mix(2, self.share, np.random.default_rng(position))


def make_dataset(index_path, mixup=None, *, mean=0.0, std=1.0):
    shards = open_shards([index_path])
    clip_format = ClipFormat(
        target_length=160,
        img_size=32,
        num_frames=media.SMALL.num_frames,
        logmel_mean=mean,
        logmel_std=std,
        training=True,
        seed=3,
    )
    return ClipDataset(shards, clip_format, mixup)


def fixed_mixup(index_path, share):
    front_end = read_mixup([index_path], probability=1.0, alpha=10.0)
    return Fixed(1.0, 10.0, front_end.audio, front_end.sample_rate_hz, share)


def waveform(dataset, index):
    members = dataset._reader.read(dataset.shards.samples[index])
    return to_float(read_flac(members["flac"]))


def test_the_index_says_how_the_log_mel_was_made(index_path):
    mixup = read_mixup([index_path, index_path], probability=0.5, alpha=10.0)
    assert (mixup.audio, mixup.sample_rate_hz) == (AUDIO, RATE_HZ)


def test_a_share_of_one_gives_the_stored_clip(index_path):
    dataset = make_dataset(index_path, fixed_mixup(index_path, 1.0))
    for index, sample in enumerate(dataset.shards.samples):
        stored = np.load(io.BytesIO(dataset._reader.read(sample)["logmel.npy"])).astype(np.float32)
        item, alone = dataset[Draw(index, 0)], make_dataset(index_path)[Draw(index, 0)]
        rounding = np.abs(stored).max() * 2.0**-11
        mixed = item["logmel"][: len(stored)].numpy()
        np.testing.assert_allclose(mixed, stored, rtol=0, atol=rounding)
        assert torch.equal(item["frames"], alone["frames"])
        assert torch.equal(item["targets"], alone["targets"])


def test_a_mixture_is_of_waveforms_without_their_means(index_path):
    dataset = make_dataset(index_path, fixed_mixup(index_path, 0.3))
    item = dataset[Draw(0, 5)]
    first, second = (torch.from_numpy(waveform(dataset, index)) for index in (0, 2))
    assert len(second) > len(first)
    cut = (second - second.mean())[: len(first)]
    mixture = 0.3 * (first - first.mean()) + 0.7 * cut
    expected = log_mel(mixture - mixture.mean(), AUDIO, RATE_HZ)
    torch.testing.assert_close(item["logmel"][: len(expected)], expected, rtol=0, atol=1e-3)
    assert item["logmel"][len(expected) :].abs().max() == 0
    stored = make_dataset(index_path)[Draw(0, 5)]["logmel"]
    assert (item["logmel"] - stored).abs().max() > 1


def test_a_short_second_waveform_is_padded(index_path):
    mixup = fixed_mixup(index_path, 0.5)
    long, short = np.ones(8000, np.float32), np.ones(2000, np.float32)
    long[::2] = -1
    padded = np.concatenate([short - 1, np.zeros(6000, np.float32)])
    expected = log_mel(torch.from_numpy(0.5 * long + 0.5 * padded), AUDIO, RATE_HZ).numpy()
    np.testing.assert_allclose(mixup.mix_logmel(long, short, 0.5), expected, atol=1e-3)


def test_frames_are_the_second_clips_own_at_the_share_of_the_sound(index_path):
    first, second = (make_dataset(index_path)[Draw(index, 4)]["frames"] for index in (0, 2))
    mixed = make_dataset(index_path, fixed_mixup(index_path, 0.25))[Draw(0, 4)]["frames"]
    # Every stored frame is taken, so there is no choice of frames to follow.
    expected = 0.25 * first.float() + 0.75 * second.float()
    assert mixed.dtype == torch.uint8
    assert (mixed.float() - expected).abs().max() <= 0.5
    assert (first.float() - second.float()).abs().max() > 20


def test_labels_have_the_share_of_the_sound(index_path):
    item = make_dataset(index_path, fixed_mixup(index_path, 0.25))[Draw(1, 4)]
    assert item["targets"].tolist() == [0.25, 0.25, 0.75, 0]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_mixtures_are_float32_whatever_the_workers(index_path, num_workers):
    dataset = make_dataset(index_path, fixed_mixup(index_path, 0.25), mean=-4.0, std=3.0)
    batches = evaluation_batches(dataset, batch_size=3, num_workers=num_workers)
    moved = (to_device(batch, torch.device("cpu"), dataset.format) for batch in batches)
    logmels = torch.cat([batch["logmel"] for batch in moved])
    alone = torch.stack([dataset[Draw(index, index)]["logmel"] for index in range(len(dataset))])
    assert alone.dtype == torch.float32
    torch.testing.assert_close(logmels, (alone + 4) / 3, rtol=0, atol=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_smoothed_mixtures_are_the_published_soft_labels(task):
    """lambda (1 - eps) y1 + (1 - lambda)(1 - eps) y2 + eps / C, in both tasks."""
    share, eps, num_classes = 0.3, 0.1, 4
    first, second = torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[0.0, 1, 1, 0]])
    published = share * (1 - eps) * first + (1 - share) * (1 - eps) * second + eps / num_classes
    objective = published_classifier(torch.nn.Identity(), task=task, label_smoothing=eps)  # type: ignore[arg-type]
    logits = torch.randn(1, num_classes, generator=torch.Generator().manual_seed(0))
    loss = objective._loss(logits, share * first + (1 - share) * second)
    cross_entropy, binary = F.cross_entropy, F.binary_cross_entropy_with_logits
    expected = (cross_entropy if task == "multiclass" else binary)(logits, published)
    torch.testing.assert_close(loss, expected)


def test_draws_follow_the_probability_and_the_position_alone():
    mixup = Mixup(0.5, 10.0, AUDIO, RATE_HZ)
    draws = [mixup.draw(7, seed=1, position=position) for position in range(4000)]
    mixes = [mix for mix in draws if mix]
    assert len(mixes) / 4000 == pytest.approx(0.5, abs=0.03)
    assert set(Counter(mix.second for mix in mixes)) == set(range(7))
    shares = np.array([mix.share for mix in mixes])
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.std() == pytest.approx(np.sqrt(1 / 84), abs=0.01)  # of Beta(10, 10)
    again = [mixup.draw(7, seed=1, position=position) for position in (5, 3)]
    assert [mix and mix[:2] for mix in again] == [mix and mix[:2] for mix in (draws[5], draws[3])]
    never = Mixup(0.0, 10.0, AUDIO, RATE_HZ)
    assert not any(never.draw(7, seed=1, position=position) for position in range(100))


def test_the_second_clip_is_read_only_when_it_is_used(index_path):
    front_end = read_mixup([index_path], probability=0.5, alpha=10.0)
    dataset = make_dataset(index_path, front_end)
    read, reader = [], dataset._reader.read
    dataset._reader.read = lambda sample: read.append(sample.key) or reader(sample)
    for position in range(20):
        mix = front_end.draw(3, seed=3, position=position)
        read.clear()
        dataset[Draw(1, position)]
        keys = [dataset.shards.samples[index].key for index in ([1, mix.second] if mix else [1])]
        assert read == keys


def test_without_mixing_a_clip_is_what_it_was(index_path):
    mixup = Mixup(1e-9, 10.0, AUDIO, RATE_HZ)
    for name, value in make_dataset(index_path)[Draw(2, 8)].items():
        assert torch.equal(value, make_dataset(index_path, mixup)[Draw(2, 8)][name])


def test_shards_without_waveforms_are_refused_by_name(index_path):
    path = media.pack_shards(index_path.parents[2], AUDIO, "lean", waveform=False)
    dataset = make_dataset(path, fixed_mixup(path, 0.5))
    with pytest.raises(ManifestError, match=r"train-00000\.tar: .*set shards\.waveform: true"):
        dataset[Draw(0, 0)]


def test_an_index_that_does_not_say_how_is_refused(index_path, tmp_path):
    value = json.loads(index_path.read_text())
    del value["audio"]
    (tmp_path / "index.json").write_text(json.dumps(value))
    with pytest.raises(ManifestError, match=r"index\.json: does not say how"):
        read_mixup([tmp_path / "index.json"], probability=0.5, alpha=10.0)
    value["audio"] = AudioConfig().model_dump()
    (tmp_path / "index.json").write_text(json.dumps(value))
    with pytest.raises(ManifestError, match="cannot be mixed"):
        read_mixup([index_path, tmp_path / "index.json"], probability=0.5, alpha=10.0)
