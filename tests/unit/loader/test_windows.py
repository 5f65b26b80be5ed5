"""Frames by rate: which are stored, and which windows training and evaluation take of them."""

import numpy as np
import pytest
import torch

from pipeline_src.config.data import AudioConfig, MediaConfig
from pipeline_src.errors import ManifestError
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.sampler import Draw
from pipeline_src.loader.windows import window_frames
from pipeline_src.methods.factory import create_model
from pipeline_src.shards.shard_set import open_shards
from pipeline_src.transcode.frame_times import count_frames, frame_seconds
from tests import media

AUDIO = AudioConfig(num_mel_bins=32)
BY_RATE = MediaConfig(num_frames=0, frame_rate=4, frame_size=32)
QUARTERS = [(k + 0.5) / 4 for k in range(40)]  # 10 s at 4 frames per second


@pytest.mark.parametrize(
    ("seconds", "rate", "count"),
    [(10, 2, 20), (9.98, 2, 20), (9.7, 2, 19), (0.3, 2, 1), (0.2, 1, 1), (1, 0.5, 1), (4, 0.5, 2)],
)
def test_as_many_frames_as_have_their_moment_in_the_clip(seconds, rate, count):
    config = MediaConfig(num_frames=0, frame_rate=rate)
    moments = frame_seconds(seconds, config)
    assert len(moments) == count_frames(seconds, config) == count
    assert moments == pytest.approx([(k + 0.5) / rate for k in range(count)])
    assert count == 1 or moments[-1] < seconds <= moments[-1] + 1 / rate


@pytest.mark.slow
def test_frames_are_those_shown_at_their_moments(tmp_path):
    media.make_clip(tmp_path / "a.mp4", seconds=2, fps=10)
    path = media.transcode(media.download(tmp_path, [{"source": "a.mp4"}]), BY_RATE)
    manifest, samples = media.read_transcoded(path)
    (clip,) = manifest.clips
    assert clip["frame_seconds"] == [(k + 0.5) / 4 for k in range(8)]
    expected = [int(moment * 10 + 1e-6) for moment in clip["frame_seconds"]]
    assert media.frame_numbers(samples[clip["key"]]) == expected
    assert (manifest.settings["num_frames"], manifest.settings["frame_rate"]) == (0, 4)


def test_a_training_window_is_anywhere_and_keeps_its_rate():
    starts = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        chosen = window_frames(QUARTERS, fps=2, num_frames=8, rng=rng)
        assert np.diff(chosen).tolist() == [2] * 7  # every second of 4 per second
        starts.add(chosen[0])
    assert starts == set(range(26))  # 15 frames of 40 are spanned


@pytest.mark.parametrize(
    ("duration", "fps", "num_frames", "expected"),
    [
        (10, 4, 4, [18, 19, 20, 21]),  # the middle second
        (10, 2, 4, [16, 18, 20, 22]),
        (10, 3, 4, [17, 18, 20, 21]),  # not a whole number of stored frames apart
        (1, 4, 4, [0, 1, 2, 3]),  # the whole clip
        (1, 2, 4, [0, 2, 3, 3]),  # shorter than the window: the last frame is repeated
    ],
)
def test_evaluation_takes_the_middle_window(duration, fps, num_frames, expected):
    stored = QUARTERS[: 4 * duration]
    assert window_frames(stored, fps=fps, num_frames=num_frames) == expected


def test_windows_of_evaluation_are_the_networks_groups():
    chosen = window_frames(QUARTERS, fps=4, num_frames=4, num_windows=3)
    model = create_model(
        "cav_mae_tiny", num_classes=2, num_frames=4, img_size=16, patch_size=8, embed_dim=16,
        depth=2, num_heads=2, num_mel_bins=16, target_length=32, audio_patch_size=(16, 16),
    )  # fmt: skip
    frames = torch.tensor(chosen).view(1, -1, 1, 1, 1)
    groups = model.group_frames(frames).flatten(2).tolist()[0]
    assert groups == [[0, 1, 2, 3], [18, 19, 20, 21], [36, 37, 38, 39]]


def test_a_rate_above_the_stored_one_is_refused():
    with pytest.raises(ValueError, match=r"fps=5 .* at 4 per second; set media.frame_rate to 5"):
        window_frames(QUARTERS, fps=5, num_frames=4)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """One clip of 2 s with 8 frames, and one of 0.5 s with 2."""
    folder = tmp_path_factory.mktemp("windows")
    media.make_clip(folder / "long.mp4", seconds=2, fps=10)
    media.make_clip(folder / "brief.mp4", seconds=0.5, fps=10)
    clips = [{"clip_id": name, "source": f"{name}.mp4"} for name in ("long", "brief")]
    return open_shards([media.make_shards(folder, clips, AUDIO, media=BY_RATE)])


def frame_numbers(item):
    """Which source frame each frame shows, by its grey level."""
    levels = item["frames"].float().mean((1, 2, 3))
    return [round(float(level) * 219 / 255 / media.LEVEL_STEP) for level in levels]


def make_dataset(shards, **changes):
    values = {
        "target_length": 96, "img_size": 32, "num_frames": 2, "logmel_mean": 0, "logmel_std": 1,
        "training": False, "fps": 2,
    }  # fmt: skip
    return ClipDataset(shards, ClipFormat(**{**values, **changes}))


@pytest.mark.slow
def test_clips_of_shards_give_windows(shards):
    dataset = make_dataset(shards)
    assert frame_numbers(dataset[Draw(0, 0)]) == [6, 11]  # stored at .625 s and 1.125 s
    assert frame_numbers(dataset[Draw(1, 1)]) == [1, 3]
    several = make_dataset(shards, num_frames=4, window_frames=2)
    assert frame_numbers(several[Draw(0, 0)]) == [1, 13, 6, 18]  # first and last, by turns
    training = make_dataset(shards, training=True)
    pairs = {tuple(frame_numbers(training[Draw(0, position)])) for position in range(60)}
    stored = [int((k + 0.5) / 4 * 10) for k in range(8)]
    assert pairs == {(stored[k], stored[k + 2]) for k in range(6)}


@pytest.mark.slow
def test_a_sample_with_too_few_frames_is_named(shards):
    with pytest.raises(ManifestError, match=r"train-00000.tar: sample 'long': fps=5"):
        make_dataset(shards, fps=5)[Draw(0, 0)]
