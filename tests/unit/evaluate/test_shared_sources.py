"""What the scored clips share: the list's groups, else the files that they are cut from."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline_src.config import AudioConfig
from pipeline_src.evaluate.common import open_split, shared_sources
from tests import media

pytestmark = pytest.mark.slow

NAMES = "abcd"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Four clips, the last two of one file."""
    folder = tmp_path_factory.mktemp("shards")
    for name in NAMES[:3]:
        media.make_clip(folder / f"{name}.mp4")
    sources = (*(f"{name}.mp4" for name in NAMES[:3]), "c.mp4")
    clips = [{"clip_id": n, "source": s} for n, s in zip(NAMES, sources, strict=True)]
    return media.make_shards(folder, clips, AudioConfig(num_mel_bins=32))


def sources_of(
    index: Path, groups: Mapping[str, str], places: Sequence[int] = range(4)
) -> dict[str, list[str]]:
    """``sources`` of clips of a split whose list names ``groups``."""
    path = index.with_name("groups.csv")
    path.write_text("clip_id,group\n" + "".join(f"{n},{name}\n" for n, name in groups.items()))
    split = open_split(index, {}, path)
    return {name: list(values) for name, values in shared_sources(split, places).items()}


def test_clips_of_one_file_or_one_speaker_share_it(index):
    assert sources_of(index, {}) == {"sources": ["a.mp4", "b.mp4", "c.mp4", "c.mp4"]}
    assert sources_of(index, {"a": "ann", "b": "ann"}) == {
        "sources": ["ann", "ann", "c.mp4", "c.mp4"]
    }
    assert sources_of(index, {"a": "ann"}, [2, 0]) == {}
    assert shared_sources(open_split(index, {}), [3, 2]) != {}


def test_where_all_speakers_are_known_no_shard_is_read(index, tmp_path):
    folder = shutil.copytree(index.parent, tmp_path / "shards")
    speakers = tmp_path / "groups.csv"
    speakers.write_text("clip_id,group\n" + "".join(f"{name},ann\n" for name in NAMES))
    split = open_split(folder / "index.json", {}, speakers)
    for shard in folder.glob("*.tar"):
        shard.write_bytes(b"")
    assert list(shared_sources(split, range(4))["sources"]) == ["ann"] * 4
