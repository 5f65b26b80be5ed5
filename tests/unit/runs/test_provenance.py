"""What a result says about the programs that made it."""

import subprocess

import pytest

from pipeline_src.runs.provenance import PACKAGES, package_versions
from pipeline_src.transcode import ffmpeg


@pytest.fixture
def asked_anew():
    """Forget the binary that was found, before and after."""
    caches = (ffmpeg.find_ffmpeg, ffmpeg.ffmpeg_version, package_versions)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.slow
def test_ffmpeg_and_the_page_reader_are_among_the_versions(asked_anew):
    versions = package_versions()
    said = subprocess.run([ffmpeg.find_ffmpeg(), "-version"], capture_output=True, text=True)
    assert said.stdout.startswith(f"ffmpeg version {versions['ffmpeg']} ")
    assert versions.keys() == {"python", "ffmpeg", *PACKAGES}
    assert versions["yt-dlp"][:2] == "20"  # its versions are dates


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'ffmpeg version n8.0-mine Copyright (c)'", "n8.0-mine"),
        ("exit 1", "absent"),
        ("true", "unknown"),
    ],
)
def test_the_binary_that_is_used_is_asked(asked_anew, tmp_path, monkeypatch, script, found):
    binary = tmp_path / "ffmpeg"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    monkeypatch.setenv(ffmpeg.ENVIRONMENT_VARIABLE, str(binary))
    assert package_versions()["ffmpeg"] == found


def test_a_node_without_ffmpeg_still_trains(asked_anew, monkeypatch):
    monkeypatch.setenv(ffmpeg.ENVIRONMENT_VARIABLE, "/nowhere/ffmpeg")
    assert package_versions()["ffmpeg"] == "absent"
