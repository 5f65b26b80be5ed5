"""Checkpoints that do not say how their media were prepared learn it, or say what to do."""

import json

import pytest

from pipeline_src.cli import main
from pipeline_src.errors import CheckpointError
from pipeline_src.inference.complete import complete
from pipeline_src.inference.model import load
from tests.checkpoints import make_checkpoint


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


def test_a_configuration_of_another_training_is_refused(old, tmp_path):
    folder = old("media", "converted_from")
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("media: {sample_rate_hz: 22050}\n")
    with pytest.raises(CheckpointError, match=r"sample_rate_hz = 16000.*22050"):
        complete(folder, [overlay])
