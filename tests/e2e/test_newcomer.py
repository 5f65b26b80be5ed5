"""Somebody's own folder of clips: four commands, none of them edited by hand."""

import shlex

import pytest

from pipeline_src.datasets.folder import clip_id
from tests.media import copy_apart, make_clip

pytestmark = pytest.mark.e2e


def printed_command(output, title):
    return shlex.split(output.partition(f"{title}:")[2].partition("\n")[0])


def test_a_folder_of_thirty_clips_becomes_a_table_in_four_commands(fresh, tmp_path):
    folder = tmp_path / "Mes vidéos"
    clip = make_clip(tmp_path / "clip.mp4", options=("-c:v", "mpeg4", "-c:a", "aac"))
    for number in range(30):
        path = folder / f"été {number % 3}" / f"clip {number}.mp4"
        copy_apart(clip, path)
    (tmp_path / "own").mkdir()
    workspace = fresh.copied_to(tmp_path / "own")
    command = ("python", "-m", "pipeline_src")
    said = workspace.run(*command, "list", str(folder), "config/test/tiny.yaml")
    assert "clips: train 24, val 3, test 3" in said
    dry = workspace.run(*printed_command(said, "look first"))
    assert "finetune_model" in dry
    workspace.run(*printed_command(said, "run it"))
    called = printed_command(said, "its figures")
    table = workspace.run(*command, *called[1:])
    assert "Mes_videos/test" in table
    assert "3 of 3" in table
    assert clip_id("été 0/clip 0.mp4") in (folder / "Mes_videos_clips.csv").read_text()
