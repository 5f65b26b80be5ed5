"""What all evaluations share: why a split holds nothing, and which clips are of one source."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline_src.config import AudioConfig
from pipeline_src.errors import ManifestError
from pipeline_src.evaluate.common import open_split, shared_sources
from pipeline_src.manifest.ledger import LedgerRow, write_ledger
from tests import media

pytestmark = pytest.mark.slow


def test_a_split_without_clips_names_the_first_lost_one_and_its_ledger(tmp_path):
    media.make_clip(tmp_path / "a.mp4")
    clips = [{"clip_id": "a", "source": "a.mp4", "labels": "0"}]
    made = json.loads(media.make_shards(tmp_path, clips, AudioConfig(num_mel_bins=32)).read_text())
    split = tmp_path / "toy/shards/train"
    split.mkdir(parents=True)
    emptied = {"num_clips": 0, "num_clips_in_list": 2, "shards": []}
    reasons = {"corrupt": 1, "unavailable": 1}
    (split / "index.json").write_text(json.dumps({**made, **emptied, "reasons": reasons}))
    (split / "00000.json").touch()
    ledger = tmp_path / "toy/transcode/train/00000.ledger.csv"
    rows = [LedgerRow("a", "failed", "corrupt", detail="no moov atom"), LedgerRow("b", "ok")]
    write_ledger(ledger, rows, 2)
    message = (
        "0 of 2 clips, nothing to score; lost: corrupt 1, unavailable 1; "
        f"the first: 'a', corrupt: no moov atom ({ledger})"
    )
    with pytest.raises(ManifestError, match=re.escape(message)):
        open_split(split / "index.json", {})


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
