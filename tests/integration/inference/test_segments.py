"""A checkpoint that sees aligned segments, in use: the whole clip is heard, piece by piece."""

import numpy as np
import pytest

from pipeline_src.inference.inputs import ClipArrays
from pipeline_src.inference.model import load
from tests.checkpoints import make_checkpoint
from tests.media import make_clip

pytestmark = pytest.mark.slow

SEGMENTS = {"target_length": 48, "clip_length": 96}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sync")
    made = make_checkpoint(folder, name="cav_mae_sync_tiny", **SEGMENTS, num_segments=4)
    return load(made, device="cpu", num_frames=4)


def test_files_give_embeddings_and_scores(model, tmp_path):
    make_clip(tmp_path / "clip.mp4", seconds=1.2)
    make_clip(tmp_path / "sound.wav", seconds=1.2, has_video=False, options=())
    clip, sound = model.embed(tmp_path)
    assert clip.audio.shape == clip.video.shape == (model.network.config.embed_dim,)
    np.testing.assert_allclose(sound.audio, clip.audio, atol=0.3)  # without frames, elsewhere cut
    scored = model.classify(tmp_path)
    assert [one.head for one in scored] == ["audio_video", "audio"]
    assert all(one.scores.sum() == pytest.approx(1, abs=1e-4) for one in scored)


def test_the_network_hears_the_whole_clip(model):
    assert model.clip_seconds == pytest.approx(0.96)
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(15360).astype(np.float32) * 0.1
    changed = sound.copy()
    changed[-4000:] = 0  # behind the first segment
    vectors = [model.embed([ClipArrays(sound=one)])[0].audio for one in (sound, changed)]
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_a_file_without_what_every_head_takes_is_refused(tmp_path):
    """The released network scores pairs alone: a sound ended the whole call."""
    made = make_checkpoint(
        tmp_path / "run", name="cav_mae_sync_tiny", **SEGMENTS, num_segments=4, classifier="pairs"
    )
    (tmp_path / "media").mkdir()
    make_clip(tmp_path / "media/clip.mp4", seconds=1.2)
    make_clip(tmp_path / "media/sound.wav", seconds=1.2, has_video=False, options=())
    clip, sound = load(made, device="cpu", num_frames=4).classify(tmp_path / "media")
    assert (clip.head, clip.span.reason) == ("audio_video", "")
    assert (sound.scores, sound.span.reason) == (None, "no_video")
    assert "to score audio_video" in sound.span.detail
