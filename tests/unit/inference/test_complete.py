"""Checkpoints that do not say how their media were prepared learn it, or say what to do."""

import json

import pytest
import torch

from pipeline_src.commands.cli import main
from pipeline_src.errors import CheckpointError
from pipeline_src.inference.complete import complete
from pipeline_src.inference.model import load
from pipeline_src.runs.done import read_done
from tests.checkpoints import make_checkpoint
from tests.networks import WIDTHS
from tests.report_files import minimal_scores
from tests.unit.runs.test_convert import published_state

pytestmark = pytest.mark.slow

# What the authors' code prepares, which AVSiam and CAV-MAE Sync took over from CAV-MAE.
FRONT_END = {
    "sample_rate_hz": 16000,
    "num_mel_bins": 128,
    "window_length_ms": 25.0,
    "hop_length_ms": 10.0,
    "low_freq_hz": 20.0,
    "high_freq_hz": 0.0,  # half the sample rate
}
NORMALISATION = {"logmel_mean": -5.081, "logmel_std": 4.4849}
MEDIA = {"sample_rate_hz": 16000, "frame_size": 224, "frame_fit": "crop", "frame_rate": 0.0}
AUDIOSET = {
    "dataset": "audioset_2m",
    "collection": "audioset",
    "licence": "annotations CC-BY-4.0; the videos belong to their uploaders",
}
# Stored frames, and log-mel frames that the network hears, of so many of a clip (0 = of all).
PUBLISHED = {
    "avsiam_base": (10, 1024, 0),
    "avsiam_large": (10, 1024, 0),
    "cav_mae_base": (10, 1024, 0),
    "cav_mae_sync_base": (16, 416, 1024),
}


@pytest.fixture
def old(tmp_path):
    """A converted checkpoint as 0.1 left it; its state, and the change of it."""
    folder = make_checkpoint(tmp_path / "run")
    path = folder / "checkpoint/state.json"

    def without(*keys, **more):
        state = {**json.loads(path.read_text()), **more}
        path.write_text(json.dumps({k: v for k, v in state.items() if k not in keys}))
        return folder

    return without


def test_converted_weights_get_the_published_settings(old, capsys):
    folder = old("media", "front_end", "data")
    assert main(["complete", str(folder)]) == 0
    assert "media and data added" in capsys.readouterr().out
    assert load(folder).preparation.media.num_frames == 10
    assert complete(folder).endswith("complete")


def convert(tmp_path, root, name, num_classes, *more):
    """Convert a file of a published name's input sizes, but narrow; its folder."""
    sizes = {"img_size": 224, "patch_size": 16, "num_mel_bins": 128}
    state = published_state(name, num_classes, **sizes, target_length=PUBLISHED[name][1])
    torch.save(state, tmp_path / "weights.pth")
    narrow = [f"--set={key}={value}" for key, value in WIDTHS.items()]
    trained_on = root / "config/datasets/audioset_2m.yaml"
    given = [tmp_path / "weights.pth", tmp_path / "out", "--model", name, *narrow, *more]
    assert main(["convert", *map(str, given), "--trained-on", str(trained_on)]) == 0
    return tmp_path / "out"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_has_its_settings_data_and_licence(tmp_path, root, name):
    folder = convert(tmp_path, root, name, 0)
    path = read_done(folder / "done.json").folder / "state.json"
    written = json.loads(path.read_text())
    num_frames, heard, clip_length = PUBLISHED[name]
    assert written["media"].items() >= (MEDIA | {"num_frames": num_frames}).items()
    assert written["front_end"] == FRONT_END
    assert written.items() >= NORMALISATION.items()
    assert written["data"] == [AUDIOSET]
    assert written["class_names"] == []
    model = load(folder, device="cpu")
    assert model.network.config.target_length == heard
    assert model.network.config.clip_length == clip_length
    assert model.clip_seconds == pytest.approx(10.24)
    assert model.num_frames == num_frames

    kept = {k: v for k, v in written.items() if k not in ("media", "front_end", "data")}
    path.write_text(json.dumps(kept))  # as 0.1 left it
    dataset = root / "config/datasets/audioset_2m.yaml"
    assert main(["complete", str(folder), "--dataset", str(dataset)]) == 0
    assert json.loads(path.read_text()) == written


@pytest.mark.parametrize("name", ["avsiam_base", "cav_mae_base", "cav_mae_sync_base"])
def test_a_fine_tuned_published_file_has_its_classes(tmp_path, root, name):
    folder = convert(tmp_path, root, name, 4, "--dataset", root / "config/test/digits.yaml")
    model = load(folder, device="cpu")
    assert model.class_names == ("zero", "one", "two", "three")
    assert model.task == "multiclass"
    assert model.preparation.media.num_frames == PUBLISHED[name][0]
    preparation = model.preparation
    assert (preparation.logmel_mean, preparation.logmel_std) == tuple(NORMALISATION.values())


def test_nothing_beside_it_is_told_with_what_to_name(old):
    folder = old("media", "converted_from")
    with pytest.raises(CheckpointError, match="--configfile FILE"):
        complete(folder)


def test_a_configuration_that_is_named_is_taken(old, tmp_path):
    folder = old("media", "converted_from")
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("media: {frame_fit: short_side, frame_size: 40}\n")
    complete(folder, [overlay])
    media = load(folder).preparation.media
    assert (media.frame_fit, media.frame_size) == ("short_side", 40)


def test_a_configuration_that_is_named_goes_before_published_settings(old, tmp_path):
    folder = old("media")
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("media: {frame_fit: short_side, frame_size: 40}\n")
    complete(folder, [overlay])
    media = load(folder).preparation.media
    assert (media.frame_fit, media.frame_size) == ("short_side", 40)


def test_a_configuration_of_another_training_is_refused(old, tmp_path):
    folder = old("media", "converted_from")
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("media: {sample_rate_hz: 22050}\n")
    with pytest.raises(CheckpointError, match=r"sample_rate_hz = 16000.*22050"):
        complete(folder, [overlay])


def test_what_an_evaluation_has_kept_is_taken_and_what_is_none_is_passed_over(old, tmp_path):
    folder = old("media", "converted_from")
    run = tmp_path / "results/mine"
    training = run / "pretrain"
    training.parent.mkdir(parents=True)
    folder.rename(training)
    scores = minimal_scores()
    media = {"frame_fit": "squash", "frame_size": 48}
    kept = {"a": "no JSON", "b": json.dumps(scores), "c": json.dumps({**scores, "config": 3})}
    kept["d"] = json.dumps({**scores, "config": {"media": media}})
    for name, text in kept.items():
        path = run / f"probe/{name}/metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    complete(training)
    found = load(training, device="cpu").preparation.media
    assert (found.frame_fit, found.frame_size) == ("stretch", 48)
