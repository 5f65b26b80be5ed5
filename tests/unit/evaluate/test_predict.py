"""Scores over frame groups: the mean, the middle group alone, and no dependence on the batch."""

import io

import numpy as np
import pytest
import torch

from pipeline_src.evaluate.predict import SINGLE, head_probabilities, pooled_features, run_over
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.methods.factory import create_model
from pipeline_src.shards.samples import Sample
from pipeline_src.shards.shard_set import ShardSet
from tests import networks
from tests.unit.loader.test_dataset import MemoryReader

SMALL = networks.SMALL | {"num_mel_bins": 8}
METHODS = ("avsiam_tiny", "cav_mae_tiny")


class OwnLengths(MemoryReader):
    """Clips of different lengths and contents: a log-mel of as many frames as the key says."""

    def read(self, sample: Sample) -> dict[str, memoryview]:
        """The members of one sample."""
        rng = np.random.default_rng(int(sample.key))
        stream = io.BytesIO()
        np.save(stream, rng.standard_normal((int(sample.key), 8)).astype(np.float16))
        return {**super().read(sample), "logmel.npy": stream.getbuffer()}


def make_model(name, num_classes=0, num_frames=1):
    torch.manual_seed(0)
    given = SMALL | ({"audio_patch_size": (8, 4)} if name.startswith("avsiam") else {})
    return create_model(name, num_classes=num_classes, num_frames=num_frames, **given).eval()


def make_batch(num_frames, num_clips=3):
    generator = torch.Generator().manual_seed(0)
    return {
        "logmel": torch.randn(num_clips, 24, 8, generator=generator),
        "frames": torch.randn(num_clips, num_frames, 3, 16, 16, generator=generator),
    }


def one_frame(batch, frame):
    return {**batch, "frames": batch["frames"][:, frame : frame + 1]}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("task", "squash"), [("multilabel", torch.sigmoid), ("multiclass", lambda x: x.softmax(-1))]
)
def test_scores_are_means_over_frames_and_frame_5_of_10_alone(name, task, squash):
    model, batch = make_model(name, num_classes=4), make_batch(10)
    scores = head_probabilities(model, batch, task=task)
    alone = [model.forward_heads(*one_frame(batch, k).values()) for k in range(10)]
    for head in ("video", "audio_video"):
        per_frame = [squash(logits[head][:, 0]) for logits in alone]
        torch.testing.assert_close(scores[head], torch.stack(per_frame).mean(0))
        torch.testing.assert_close(scores[SINGLE + head], per_frame[5])
        assert not torch.allclose(scores[SINGLE + head], per_frame[4], rtol=0, atol=1e-6)
    assert SINGLE + "audio" not in scores


@pytest.mark.parametrize("name", METHODS)
def test_features_of_the_middle_frame_are_those_of_the_frame_alone(name):
    model, batch = make_model(name), make_batch(10)
    features = pooled_features(model, batch)
    torch.testing.assert_close(features["video"], model.embed(video=batch["frames"])["video"])
    alone = model.embed(video=batch["frames"][:, 5:6])["video"]
    torch.testing.assert_close(features[SINGLE + "video"], alone)


@pytest.mark.parametrize("name", METHODS)
def test_one_frame_group_has_no_single_frame_figure(name):
    model, batch = make_model(name, num_classes=4, num_frames=2), make_batch(2)
    assert set(head_probabilities(model, batch, task="multiclass")) == {
        "audio",
        "video",
        "audio_video",
    }
    assert set(pooled_features(make_model(name, num_frames=2), batch)) == {"audio", "video"}


@pytest.mark.parametrize("name", METHODS)
def test_audio_is_encoded_once_per_clip(name):
    model, batch = make_model(name, num_classes=4), make_batch(10)
    clips = []
    first = dict(model.named_modules())[
        "vit_base.patch_embed_a" if name.startswith("avsiam") else "patch_embed_a"
    ]
    first.register_forward_hook(lambda module, inputs, output: clips.append(len(inputs[0])))
    head_probabilities(model, batch, task="multiclass")
    assert clips == [3]


@pytest.mark.parametrize("name", METHODS)
def test_features_at_batch_size_1_equal_those_at_n(name, tmp_path):
    samples = [Sample(tmp_path, str(n), 0, 0, (0,), f"clip{n}") for n in (5, 24, 11, 40, 1)]
    shards = ShardSet(samples, "multiclass", ("a", "b"), 8, 0.0, 1.0)
    shape = {"target_length": 24, "img_size": 16, "num_frames": 4}
    dataset = ClipDataset(
        shards, ClipFormat(**shape, logmel_mean=0.0, logmel_std=1.0, training=False)
    )
    dataset._reader = OwnLengths()
    model = make_model(name)

    def features(batch_size):
        return run_over(
            dataset,
            lambda batch: pooled_features(model, batch),
            batch_size=batch_size,
            num_workers=0,
            device=torch.device("cpu"),
        )

    one, all_at_once = features(1), features(5)
    assert set(one) == {"audio", "video", SINGLE + "video", "targets", "index"}
    for key, value in one.items():
        np.testing.assert_allclose(value, all_at_once[key], rtol=1e-5, atol=1e-6)
    assert np.abs(one["audio"][0] - one["audio"][1]).max() > 1e-3
