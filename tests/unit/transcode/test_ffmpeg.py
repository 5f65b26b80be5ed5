"""The ffmpeg that is used."""

import pytest

from pipeline_src.errors import StageError
from pipeline_src.transcode.ffmpeg import find_ffmpeg


def test_a_wrong_program_of_the_wheel_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PIPELINE_FFMPEG", raising=False)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    find_ffmpeg.cache_clear()
    try:
        with pytest.raises(StageError, match="IMAGEIO_FFMPEG_EXE='/nowhere/ffmpeg' is no"):
            find_ffmpeg()
    finally:
        find_ffmpeg.cache_clear()
