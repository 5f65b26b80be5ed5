"""A checkpoint in use: every kind of input, refusals with reasons, windows with times."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import pipeline_src
from pipeline_src.commands.cli import main
from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.inference.inputs import ClipArrays
from pipeline_src.inference.model import load
from pipeline_src.manifest.ledger import REASONS
from tests.checkpoints import NAMES, make_checkpoint
from tests.media import make_broken_clips, make_clip, run_ffmpeg
from tests.server import running_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(folder):
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A second of sound and picture, and each of them alone."""
    path = tmp_path_factory.mktemp("media")
    make_clip(path / "clip.mp4", seconds=1.2)
    make_clip(path / "mute.mp4", seconds=1.2, tone=None)
    make_clip(path / "sound.wav", seconds=1.2, has_video=False, options=())
    Image.effect_noise((64, 48), 60).convert("RGB").save(path / "picture.png")
    return path


def test_the_package_offers_it_without_importing_torch_first(folder):
    assert pipeline_src.load is load
    with pytest.raises(AttributeError):
        pipeline_src.nothing  # noqa: B018


def test_each_input_gives_what_it_has(model, media):
    clip, mute, picture, sound = model.embed(media)
    assert [one.span.source.rpartition("/")[2] for one in (clip, mute, picture, sound)] == [
        *("clip.mp4", "mute.mp4", "picture.png", "sound.wav")
    ]
    width = model.network.config.embed_dim
    assert clip.audio.shape == clip.video.shape == (width,)
    assert mute.audio is picture.audio is sound.video is None
    assert mute.video.shape == picture.video.shape == sound.audio.shape == (width,)
    assert (clip.span.start_seconds, clip.span.end_seconds) == pytest.approx((0, 1.2), abs=0.1)


def test_the_same_content_gives_the_same_vectors_however_it_is_given(model, media):
    path = media / "clip.mp4"
    with running_server() as server:
        server.files["clip.mp4"] = path.read_bytes()
        server.files["picture.png"] = (media / "picture.png").read_bytes()
        urls = [server.url("clip.mp4"), server.url("picture.png")]
        given = [path, str(path), path.read_bytes(), urls[0]]
        first, *others = model.embed(given)
        seen = model.embed([media / "picture.png", urls[1]])
    for other in others:
        assert np.array_equal(first.audio, other.audio)
        assert np.array_equal(first.video, other.video)
    assert np.array_equal(seen[0].video, seen[1].video)


def test_a_mute_video_shows_what_one_with_sound_shows(model, media):
    clip, mute = model.embed([media / "clip.mp4", media / "mute.mp4"], modalities=("video",))
    assert clip.audio is None
    assert np.allclose(clip.video, mute.video, atol=1e-2)


def test_arrays_of_sound_are_heard_as_files_are(model, media):
    rate = 16000
    wave = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(int(1.2 * rate)) / rate)).astype(np.float32)
    (file,) = model.embed(media / "sound.wav")
    floats, integers, other = model.embed(
        [wave, (wave * 32767).astype(np.int16), ClipArrays(wave[::2].copy(), rate // 2)]
    )
    for one in (floats, integers, other):
        assert one.compared("audio") @ file.compared("audio") > 0.98
    (same,) = model.embed((media / "sound.wav").read_bytes())
    assert np.array_equal(same.audio, file.audio)


def test_arrays_of_both_are_one_clip(model):
    frames = np.random.default_rng(0).integers(0, 255, (6, 40, 60, 3), np.uint8)
    both, alone = model.embed([ClipArrays(np.ones(16000) * 0.1, 16000, frames), frames])
    assert both.audio is not None
    assert np.array_equal(both.video, alone.video)
    assert both.span.end_seconds == pytest.approx(1.0)


def test_classes_are_scored_by_the_head_for_what_there_is(model, media):
    found = model.classify(media)
    assert [one.head for one in found] == ["audio_video", "video", "video", "audio"]
    for one in found:
        assert one.scores.sum() == pytest.approx(1, abs=1e-5)
        assert one.label in NAMES
        assert one.top(2)[0][1] >= one.top(2)[1][1]


def test_a_pretraining_knows_no_classes(tmp_path, media):
    model = load(make_checkpoint(tmp_path / "run", classes=()))
    with pytest.raises(CheckpointError, match="name a fine-tuning"):
        model.classify(media)


def test_broken_bytes_are_called_by_their_name(model, media):
    clip = (media / "clip.mp4").read_bytes()
    for one in model.embed([b"garbage" * 100, clip[: len(clip) // 2]]):
        assert one.span.reason
        assert "input.bin" not in one.span.detail, "no temporary file is named"


def test_hostile_files_have_reasons_and_harm_no_other(model, media, tmp_path):
    reasons = make_broken_clips(tmp_path)
    # Without both of them there is still something to look at.
    expected = {**reasons, "mute.mp4": "", "blind.mp4": ""}
    (tmp_path / "bomb.png").write_bytes((media / "picture.png").read_bytes()[:60])
    expected["bomb.png"] = "corrupt"
    good = media / "clip.mp4"
    given = [*(tmp_path / name for name in expected), good]
    found = model.embed(given, window_seconds=None)
    given = {one.span.source.rpartition("/")[2]: one.span.reason for one in found}
    assert given == {**expected, "clip.mp4": ""}
    for one in found:
        assert one.is_ok == (one.span.reason == "")
        assert one.is_ok or (one.span.reason in REASONS and one.span.detail)
    (alone,) = model.embed(good)
    assert np.allclose(found[-1].audio, alone.audio, atol=1e-6)


def test_urls_go_where_they_may_and_no_further(model):
    with running_server() as server:
        server.raw["away.mp4"] = (
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        urls = [server.url("404.mp4"), server.url("away.mp4"), "file:///etc/passwd", "ftp://h/a"]
        found = model.embed(urls)
    assert [one.span.reason for one in found] == ["unavailable", *["unsupported"] * 3]


def test_long_files_are_cut_into_windows(model, tmp_path):
    path = make_clip(tmp_path / "long.mp4", seconds=5)
    whole = model.embed(path, window_seconds=None)
    found = model.embed(path, window_seconds=2, modalities=("audio",))
    auto = model.embed(path)
    assert len(whole) == 1
    times = [(one.span.start_seconds, one.span.end_seconds) for one in found]
    assert np.allclose(times, [(0, 2), (2, 4), (3, 5)], atol=0.1)
    assert {(one.span.window, one.span.num_windows) for one in found} == {(0, 3), (1, 3), (2, 3)}
    assert len(auto) == 6
    assert model.clip_seconds == pytest.approx(0.96)
    assert all(one.video is None for one in found)


@pytest.mark.parametrize("decode_errors", ["reject", "tolerate"])
@pytest.mark.parametrize(("sound", "picture"), [(1, 3), (3, 1)])
def test_windows_give_what_they_have_where_sound_or_picture_ends(
    model, tmp_path, monkeypatch, sound, picture, decode_errors
):
    """They were refused, and files of one that ends early worse off than files without it."""
    media = model.preparation.media.model_copy(update={"decode_errors": decode_errors})
    monkeypatch.setattr(model, "preparation", replace(model.preparation, media=media))
    path = make_clip(tmp_path / "uneven.mp4", seconds=sound, video_seconds=picture)
    found = model.embed(path, window_seconds=1)
    assert [one.span.reason for one in found] == [""] * 3
    longer = "audio" if sound > picture else "video"
    assert (found[0].audio is None, found[0].video is None) == (False, False)
    assert (found[2].audio is None, found[2].video is None) == (sound < 3, picture < 3)
    alone = model.embed(path, window_seconds=1, modalities=(longer,))
    assert [one.span.reason for one in alone] == [""] * 3
    for one, other in zip(found, alone, strict=True):
        assert np.allclose(getattr(one, longer), getattr(other, longer), atol=1e-5)
    times = [(one.span.start_seconds, one.span.end_seconds) for one in found]
    assert np.allclose(times, [(0, 1), (1, 2), (2, 3)], atol=0.1)


def test_pictures_alone_are_asked_of_a_file_with_hardly_any_sound(model, tmp_path):
    path = make_clip(tmp_path / "click.mp4", seconds=0.02, video_seconds=2)
    (refused,) = model.embed(path, window_seconds=None)
    assert refused.span.reason == "too_short"
    (seen,) = model.embed(path, window_seconds=None, modalities=("video",))
    assert seen.video is not None


def test_results_do_not_depend_on_batches_or_threads(model, media):
    given = [media / "clip.mp4", media / "sound.wav", media / "picture.png"] * 3
    few = model.embed(given, batch_size=2, num_workers=1)
    many = model.embed(given, batch_size=64, num_workers=4)
    for one, other in zip(few, many, strict=True):
        for name in ("audio", "video"):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert (ours is None) == (theirs is None)
            assert ours is None or np.allclose(ours, theirs, atol=1e-5)


def test_a_network_in_half_precision_gives_nearly_the_same(folder, media):
    exact, half = load(folder, device="cpu"), load(folder, device="cpu")
    half.network.to(torch.bfloat16)
    for one, other in zip(exact.embed(media), half.embed(media), strict=True):
        for name in ("audio", "video"):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert (ours is None) == (theirs is None)
            assert ours is None or np.allclose(ours, theirs, atol=0.1)
    assert [one.label for one in half.classify(media / "clip.mp4")]


def test_batches_are_what_the_network_is_shown(model, media):
    inputs = [media / "clip.mp4", media / "sound.wav", media / "nowhere.mp4", media / "mute.mp4"]
    found = {}
    for spans, batch in model.batches(inputs):
        if not batch:
            assert [(span.number, span.reason) for span in spans] == [(2, "unavailable")]
            continue
        outputs = model.network(batch.get("logmel"), batch.get("frames"))  # with gradients
        assert all(value.requires_grad for value in outputs.values())
        for row, span in enumerate(spans):
            found[span.number] = {name: value[row] for name, value in outputs.items()}
    expected = model.embed(inputs)
    assert sorted(found) == [0, 1, 3]
    for number, vectors in found.items():
        for name, vector in vectors.items():
            ours = vector.detach().numpy()
            assert np.allclose(ours, getattr(expected[number], name), atol=1e-6)


def test_similarity_of_sounds_and_pictures(model, media, caplog):
    sounds = [media / "clip.mp4", media / "sound.wav"]
    pictures = [media / "clip.mp4", media / "picture.png", media / "nowhere.png"]
    matrix = model.similarity(sounds, pictures)
    assert matrix.shape == (2, 3)
    assert (np.abs(matrix[:, :2]) <= 1 + 1e-5).all()
    assert np.isnan(matrix[:, 2]).all()
    assert "nowhere.png: no video to compare" in caplog.text
    none_heard = model.similarity([media / "picture.png"], pictures[:1])
    assert none_heard.shape == (1, 1)
    assert np.isnan(none_heard).all()
    again = model.similarity(model.embed(sounds), model.embed(pictures))
    assert np.allclose(matrix[:, :2], again[:, :2], atol=1e-5)


def test_an_input_that_is_longer_than_a_clip_may_be_is_told_of_windows(
    model, media, caplog, monkeypatch
):
    limited = model.preparation.media.model_copy(update={"max_seconds": 1.0})
    monkeypatch.setattr(model, "preparation", replace(model.preparation, media=limited))
    matrix = model.similarity([media / "clip.mp4"], [media / "picture.png"])
    assert np.isnan(matrix).all()
    assert 'window_seconds="auto" compares windows of it' in caplog.text


def test_similarity_has_a_row_for_each_input_however_long(model, media, tmp_path):
    long = make_clip(tmp_path / "long.mp4", seconds=4)
    assert model.similarity([long], [media / "picture.png", long]).shape == (1, 2)
    assert model.similarity([long], [long], window_seconds=1).shape == (4, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"modalities": ()},
        {"modalities": ("smell",)},
        {"window_seconds": 0},
        {"batch_size": 0},
        {"colour": 1},
    ],
)
def test_wrong_options_are_named(model, media, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        model.embed(media, **wrong)


def test_frames_are_at_least_what_the_network_takes(folder):
    assert load(folder).num_frames == 10
    assert load(folder, num_frames=3).num_frames == 3


def test_the_network_is_on_the_device_that_is_named(folder, media):
    model = load(folder, device="cpu")
    assert model.device == torch.device("cpu")
    assert {parameter.device.type for parameter in model.network.parameters()} == {"cpu"}
    usual = load(folder)
    assert usual.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    (one,), (other,) = (made.embed(media / "clip.mp4") for made in (model, usual))
    assert np.allclose(one.audio, other.audio, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here: run pytest -m gpu where one is"
)
def test_a_gpu_is_used_where_it_is_named(folder, media):
    model = load(folder, device="cuda:0")
    assert {str(parameter.device) for parameter in model.network.parameters()} == {"cuda:0"}
    for one, other in zip(model.embed(media), load(folder, device="cpu").embed(media), strict=True):
        for name in ("audio", "video"):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert (ours is None) == (theirs is None)
            assert ours is None or np.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_a_device_that_is_not_here_is_told(folder, name):
    with pytest.raises(ConfigError, match=f"^device = {name}: .*; allowed: cpu"):
        load(folder, device=name)


def test_progress_says_how_many_files_are_done_and_how_long_it_takes(
    model, media, monkeypatch, caplog
):
    monkeypatch.setattr("pipeline_src.system.progress.HEARTBEAT_SECONDS", 0.0)
    given = [media / "clip.mp4", media / "nowhere.mp4", media / "sound.wav"]
    with caplog.at_level(logging.INFO):
        model.embed(given, window_seconds=0.5)  # parts of a file are one file
        assert not caplog.messages
        model.embed(given, window_seconds=0.5, progress="my clips")
    lines = [line.split(", ") for line in caplog.messages]
    assert [line[0] for line in lines] == [
        f"my clips: {count}/3 files ({share}%)" for count, share in ((1, 33), (2, 67), (3, 100))
    ]
    assert all(rate.endswith("files/s") and left.endswith("left") for _, rate, left in lines)


def test_a_folder_without_checkpoint_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint; name the folder"):
        load(tmp_path)


def test_one_of_before_is_refused_with_the_command_that_completes_it(folder, tmp_path):
    checkpoint = folder / "checkpoint"
    state = json.loads((checkpoint / "state.json").read_text())
    before = (checkpoint / "state.json").read_bytes()
    del state["media"]
    (checkpoint / "state.json").write_text(json.dumps(state))
    try:
        with pytest.raises(CheckpointError, match=f"av-pipeline complete {checkpoint}"):
            load(folder)
    finally:
        (checkpoint / "state.json").write_bytes(before)


def test_sound_in_a_container_with_a_cover_is_sound_alone(model, media, tmp_path):
    path = run_ffmpeg(
        *("-i", str(media / "sound.wav"), "-i", str(media / "picture.png")),
        *("-map", "0", "-map", "1", "-c:v", "png", "-disposition:v", "attached_pic"),
        output=tmp_path / "song.mp3",
    )
    (found,) = model.embed(path)
    assert found.is_ok
    assert found.video is None


def test_a_folder_of_runs_is_none_of_its_trainings(folder, tmp_path):
    """Of results with one run its pre-training was taken, whatever was meant."""
    for name in ("pretrain", "finetune/digits", "finetune/digits/superseded/000"):
        shutil.copytree(folder, tmp_path / "results/run" / name)
    for place in ("results", "results/run", "."):  # the last: pre-trainings alone were in reach
        with pytest.raises(CheckpointError, match="holds several trainings") as caught:
            load(tmp_path / place, device="cpu")
        assert "superseded" not in str(caught.value)
        assert "run/finetune/digits, " in str(caught.value)
    (tmp_path / "results/run/finetune/digits/done.json").unlink()
    assert load(tmp_path / "results/run", device="cpu").folder.parent.name == "pretrain"
    below = tmp_path / "superseded/results"  # a folder of the user's that is called so
    shutil.copytree(tmp_path / "results", below)
    assert load(below, device="cpu").folder.is_relative_to(below)


def test_a_list_with_a_byte_order_mark_loses_no_file(folder, media, tmp_path, capsys):
    listed = tmp_path / "list.txt"
    lines = ("\ufeff# of the first day", media / "clip.mp4", media / "gone.mp4", "")
    listed.write_bytes("\r\n".join(map(str, lines)).encode())
    command = ["embed", str(folder), "--list", str(listed), "--output", str(tmp_path / "rows.csv")]
    assert main(command) == 0
    assert "2 inputs; refused: unavailable 1" in capsys.readouterr().err
    assert main(command) == 0
    assert "2 of 2 are done; of them refused: unavailable 1" in capsys.readouterr().err
