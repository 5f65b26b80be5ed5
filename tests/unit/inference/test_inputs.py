"""What may be given to a model, and how it is named."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline_src.errors import ConfigError
from pipeline_src.inference.inputs import ClipArrays, list_items, wav_bytes
from pipeline_src.inference.stream import Options


def test_a_folder_is_its_recordings_and_pictures(tmp_path):
    files = ("b.mp4", "a/c.WAV", "p.png", "notes.txt", ".hidden/d.mp4", "a/.e.mp4")
    for name in (*files, "@eaDir/b.mp4/SYNOVIDEO.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    found = [str(item.source.relative_to(tmp_path)) for item in list_items(tmp_path)]
    assert found == ["a/c.WAV", "b.mp4", "p.png"]


def test_a_link_to_nothing_is_an_input_and_a_pipe_is_none(tmp_path):
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")  # reading it would wait for ever
    (tmp_path / "a.mp4").touch()
    names = [Path(item.name).name for item in list_items([tmp_path])]
    assert names == ["a.mp4", "gone.mp4"]


def test_every_kind_has_a_name_and_tokens_have_none():
    sound, picture = np.zeros(16), np.zeros((4, 4, 3), np.uint8)
    url = "https://host/a.mp4?token=abcdefgh12345678"
    items = list_items(["x.mp4", url, b"abc", sound, picture, ClipArrays(sound, 8000)])
    assert [item.name for item in items[2:]] == ["bytes 2", "array 3", "array 4", "arrays 5"]
    assert items[1].source == url
    assert "abcdefgh" not in items[1].name
    assert items[4].source.frames.shape == (1, 4, 4, 3)


def test_one_input_needs_no_list():
    assert len(list_items(b"abc")) == len(list_items(np.zeros(4))) == len(list_items("a.mp4")) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 16)),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.array(["a"]),
        np.full(16, 300.0),  # neither int16 nor of full scale 1
        np.array([np.nan, 300.0]),
        np.zeros(16, np.int32),
        ClipArrays(),
        "",
        7,
        None,
    ],
)
def test_what_means_nothing_is_refused(wrong):
    with pytest.raises(ConfigError):
        list_items([wrong])


def test_samples_become_a_wav_file():
    data = wav_bytes(np.array([1, -2], np.int16), 8000)
    assert (data[:4], data[8:12], data[-4:]) == (b"RIFF", b"WAVE", b"\x01\x00\xfe\xff")
    assert int.from_bytes(data[4:8], "little") == len(data) - 8


@pytest.mark.parametrize("rate", [-5, "16000", True, 0.5, float("nan"), 10**9, None])
def test_a_rate_that_is_none_is_refused_once_and_not_each_clip(rate):
    """Every clip was called corrupt, with a traceback of its own."""
    with pytest.raises(ConfigError, match="sample_rate_hz = "):
        list_items(ClipArrays(np.zeros(100, np.float32), rate))


def test_a_rate_may_be_a_whole_float():
    (item,) = list_items(ClipArrays(np.zeros(100, np.float32), 8000.0))
    assert item.source.sample_rate_hz == 8000
    assert isinstance(item.source.sample_rate_hz, int)


@pytest.mark.parametrize(
    "options",
    [
        {"window_seconds": "foo"},
        {"window_seconds": 0},
        {"window_seconds": True},
        {"window_seconds": float("inf")},
        {"batch_size": True},
        {"batch_size": 0},
        {"batch_size": "8"},
        {"num_workers": -1},
        {"num_workers": 1.5},
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} = "):
        Options(**options)


def test_numbers_of_numpy_are_numbers():
    options = Options(window_seconds=np.float32(2), batch_size=np.int64(4))
    assert (options.window_seconds, options.batch_size) == (2, 4)
