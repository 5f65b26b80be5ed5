"""The ledgers of all stages in one table, and what is tried again of them."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
import requests

from pipeline_src.config import AudioConfig
from pipeline_src.errors import ManifestError
from pipeline_src.manifest.collect import STAGES, collect_ledgers
from pipeline_src.manifest.ledger import TRANSIENT_REASONS, LedgerRow, count_retried, write_ledger
from pipeline_src.manifest.retries import RetryRequests
from tests.media import download, make_clip, make_shards
from tests.server import BODY, running_server

LOST = {"text.mp4": ("transcode", "corrupt"), "gone.mp4": ("download", "unavailable")}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Results of one chunk: two good clips, one that is no video and one that is not there."""
    folder = tmp_path_factory.mktemp("packed")
    for name in ("good.mp4", "fine.mp4"):
        make_clip(folder / name, seconds=1)
    (folder / "text.mp4").write_text("this is no video\n" * 20)
    clips = [{"source": name} for name in ("good.mp4", "fine.mp4", *LOST)]
    make_shards(folder, clips, AudioConfig(num_mel_bins=32))
    return folder / "results"


def table(results, stages, path):
    collect_ledgers({stage: [results / stage / "00000.json"] for stage in stages}, path)
    return pq.read_table(path).to_pylist()


@pytest.mark.slow
def test_one_row_says_how_each_stage_ended_for_a_clip(packed, tmp_path):
    good, _, *lost = table(packed, STAGES, tmp_path / "ledger.parquet")
    assert (good["stage"], good["status"], good["reason"]) == ("shards", "ok", "")
    assert {good[f"{stage}_status"] for stage in STAGES} == {"ok"}
    assert good["bytes"] == (packed.parent / "good.mp4").stat().st_size
    assert (good["audio_codec"], good["video_codec"]) == ("aac", "mpeg4")
    assert good["duration_seconds"] == pytest.approx(1, abs=0.1)
    assert good["fps"] == 10
    for row in lost:
        stage, reason = LOST[row["clip_id"]]
        assert (row["stage"], row["status"], row["reason"]) == (stage, "failed", reason)
        assert row["detail"]
        assert row["fps"] is row["audio_codec"] is row["duration_seconds"] is None
        statuses = [row[f"{stage}_status"] for stage in STAGES]
        passed = STAGES.index(stage)
        skipped = ["skipped"] * (len(STAGES) - passed - 1)
        assert statuses == ["ok"] * passed + ["failed"] + skipped


@pytest.mark.slow
def test_a_fetched_clip_has_its_hash_and_when_it_came_how_fast_and_by_what(tmp_path):
    with running_server() as server:
        started = datetime.now(UTC).replace(microsecond=0)
        download(tmp_path, [{"source": server.url("good.mp4")}])
    (row,) = table(tmp_path / "results", ["download"], tmp_path / "ledger.parquet")
    assert row["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert (row["bytes"], row["attempts"]) == (len(BODY), 1)
    assert 0 < row["seconds"] < 60
    assert started <= row["finished"] <= datetime.now(UTC)
    assert row["tool"] == f"requests {requests.__version__}"


@pytest.mark.slow
def test_stages_to_come_are_null(packed, tmp_path):
    rows = table(packed, ["download"], tmp_path / "ledger.parquet")
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "failed"]
    assert {row["transcode_status"] for row in rows} == {None}
    assert {row["fps"] for row in rows} == {None}


def write_ledgers(results, chunk, **reasons):
    """A chunk of two clips, the second lost in the stages that are named, each for its reason."""
    for stage in ("download", "transcode"):
        folder = results / "toy" / stage / "train"
        folder.mkdir(parents=True, exist_ok=True)
        reason = reasons.get(stage, "")
        second = LedgerRow("b", "failed" if reason else "ok", reason)
        if stage == "transcode" and reasons.get("download"):
            second = LedgerRow("b", "skipped", reasons["download"])
        write_ledger(folder / f"{chunk}.ledger.csv", [LedgerRow("a", "ok"), second], 2)
        (folder / f"{chunk}.json").touch()


def test_each_chunk_is_asked_for_once_in_the_first_stage_that_lost_clips_for_a_time(tmp_path):
    write_ledgers(tmp_path, "00000")
    write_ledgers(tmp_path, "00001", download="network")
    write_ledgers(tmp_path, "00002", transcode="timeout")
    write_ledgers(tmp_path, "00003", download="private", transcode="corrupt")
    chunks = [f"{n:05d}" for n in range(5)]  # the last one has not been made
    stages = ("download", "transcode")
    files = {s: [f"{tmp_path}/toy/{s}/train/{chunk}.json" for chunk in chunks] for s in stages}
    requests = RetryRequests(tmp_path)
    assert requests.ask(files) == (2, 2)
    for number in (1, 2):
        asked = {(s, c): requests.of("toy", s, "train", c) for s in stages for c in chunks}
        folder = f"{tmp_path}/toy/retry"
        expected = {
            ("download", "00001"): f"{folder}/download/train/00001.{number:03d}",
            ("transcode", "00002"): f"{folder}/transcode/train/00002.{number:03d}",
        }
        assert {key: paths[-1] for key, paths in asked.items() if paths} == expected
        assert {len(paths) for paths in asked.values()} == {0, number}
        for paths in asked.values():
            for path in paths:
                tmp_path.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
                tmp_path.joinpath(path).touch()
        requests = RetryRequests(tmp_path)  # the next call
        requests.ask(files)


def test_transient_rows_are_counted_whatever_stands_beside_them(tmp_path):
    rng = np.random.default_rng(0)
    reasons = [*TRANSIENT_REASONS, "corrupt", "private"]
    rows = [LedgerRow("ok, network", "ok", detail="failed,network")]
    rows += [
        LedgerRow(f'c"{n}', str(rng.choice(["failed", "skipped"])), str(rng.choice(reasons)))
        for n in range(200)
    ]
    path = tmp_path / "00000.ledger.csv"
    write_ledger(path, rows, len(rows))
    expected = [row.status == "failed" and row.reason in TRANSIENT_REASONS for row in rows]
    assert count_retried(path) == sum(expected) > 20


@pytest.mark.parametrize("text", ["", "clip_id,status,reason\na\n"])
def test_a_damaged_ledger_is_named(tmp_path, text):
    (tmp_path / "00000.ledger.csv").write_text(text)
    with pytest.raises(ManifestError, match=r"00000\.ledger\.csv"):
        count_retried(tmp_path / "00000.ledger.csv")
