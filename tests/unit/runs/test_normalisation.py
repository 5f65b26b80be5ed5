"""Log-mels that differ from what a checkpoint has learnt are worth a warning with both values."""

import logging
from pathlib import Path

import pytest

from pipeline_src.config import ModelConfig, PretrainConfig
from pipeline_src.errors import ManifestError
from pipeline_src.evaluate.common import Split, check_fits
from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.runs.normalisation import warn_of_differences
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.shards.shard_set import ShardSet, open_shards
from tests import media

FRONT_END = {"num_mel_bins": 128, "hop_length_ms": 10.0, "sample_rate_hz": 16000}


def checkpoint_of(mean, std, front_end=None):
    state = {"logmel_mean": mean, "logmel_std": std, "num_mel_bins": 128}
    tiny = ModelConfig(method="avsiam", size="tiny")
    spec = TrainSpec(stage="pretrain", run_dir=Path("run"), model=tiny, recipe=PretrainConfig())
    state["spec"] = spec.model_dump(mode="json")
    return Checkpoint(Path("run/step"), state | ({"front_end": front_end} if front_end else {}))


def shards_of(mean, std, **front_end):
    return ShardSet([], "multiclass", ("a",), 128, mean, std, front_end={**FRONT_END, **front_end})


@pytest.mark.parametrize(
    ("mean", "std", "is_named"),
    [(-4.27, 4.57, False), (-4.30, 4.50, False), (-3.54, 3.42, True), (-4.27, 5.1, True)],
)
def test_other_statistics_are_named_beyond_a_tolerance(caplog, mean, std, is_named):
    found = warn_of_differences(checkpoint_of(-4.27, 4.57), shards_of(mean, std), "train")
    assert bool(found) == is_named
    if is_named:
        assert f"mean -4.27 and std 4.57, these clips have {mean:.2f} and {std:.2f}" in found[0]
        assert "normalises with the clips' own" in found[0]
        assert [(r.levelno, "run/step" in r.getMessage()) for r in caplog.records] == [
            (logging.WARNING, True)
        ]


def test_another_computation_is_named_with_what_to_set():
    same, other = shards_of(0, 1), shards_of(0, 1, hop_length_ms=16.0)
    learnt = checkpoint_of(0, 1, FRONT_END)
    assert warn_of_differences(learnt, same, "evaluate") == []
    (text,) = warn_of_differences(learnt, other, "evaluate")
    assert "hop_length_ms=10.0" in text
    assert "with 16.0; set audio" in text
    converted = checkpoint_of(0, 1)  # says nothing of it
    assert warn_of_differences(converted, other, "evaluate") == []


def test_an_evaluation_keeps_the_warning():
    split = Split(shards_of(3, 1), {"dataset": "toy"}, Path())
    model = ModelConfig(method="avsiam", size="tiny")
    (text,) = check_fits(checkpoint_of(0, 1), split, model)
    assert "normalises with the checkpoint's" in text


@pytest.mark.slow
def test_clips_of_different_computations_are_not_read_together(tmp_path):
    paths = []
    for name, hop in (("one", 10.0), ("two", 16.0)):
        folder = tmp_path / name
        folder.mkdir()
        media.make_clip(folder / "a.mp4")
        audio = media.AudioConfig(num_mel_bins=32, hop_length_ms=hop)
        paths.append(media.make_shards(folder, [{"clip_id": "a", "source": "a.mp4"}], audio))
    assert open_shards(paths[:1]).front_end["hop_length_ms"] == 10.0
    with pytest.raises(ManifestError, match="front_end must be equal"):
        open_shards(paths)
