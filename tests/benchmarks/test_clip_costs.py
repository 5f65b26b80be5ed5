"""The benchmark of ten-second clips times the stage as the workflow runs it."""

import pytest

from benchmarks.clip_costs import transcode
from tests.media import make_clip

pytestmark = pytest.mark.slow


def test_every_clip_that_is_timed_comes_through(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4")
    assert transcode([clip]) == [str(clip)]
