"""Results and programs that are not as they should be: one sentence each."""

import os
from pathlib import Path

import pytest

from pipeline_src.errors import StageError
from pipeline_src.system.lock import hold_results, refuse_if_held
from pipeline_src.transcode.ffmpeg import find_ffmpeg

OTHER_USER = 65534


@pytest.mark.parametrize("hold", [hold_results, refuse_if_held])
def test_results_below_a_file_are_refused(tmp_path, hold):
    (tmp_path / "file").touch()
    with pytest.raises(StageError, match=r"cannot be written: .* --config results=<folder>"):
        hold(tmp_path / "file" / "results")


@pytest.mark.slow
def test_a_lock_that_is_not_ones_own_names_its_owner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/.lock").touch()
    (tmp_path / "results/.lock").chmod(0o444)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        if os.getuid() == 0:  # who may write anything
            os.setuid(OTHER_USER)
        try:
            hold_results(Path("results"))
        except StageError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as said:
        message = said.read()
    assert "results cannot be written: results/.lock is user " in message
    assert "--config results=<folder>" in message


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
