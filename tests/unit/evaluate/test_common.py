"""What both evaluations share: a split that holds nothing is refused with why."""

import json
import re

import pytest

from pipeline_src.config import AudioConfig
from pipeline_src.errors import ManifestError
from pipeline_src.evaluate.common import open_split
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
