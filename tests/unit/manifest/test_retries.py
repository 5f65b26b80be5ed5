"""Which chunks ``retry_failed_<dataset>`` makes again."""

import os
import tarfile
from functools import partial

import pytest

from pipeline_src.config.data import DownloadConfig
from pipeline_src.download.archives import NO_MEMBER
from pipeline_src.download.local import is_another_now
from pipeline_src.manifest.ledger import (
    TRANSIENT_REASONS,
    LedgerRow,
    SourceFile,
    count_retried,
    read_ledger,
    write_ledger,
)
from pipeline_src.manifest.retries import Asked, RetryRequests
from tests.media import download
from tests.server import BODY, running_server


def write_stage(results, stage, chunk, *rows):
    path = results / "toy" / stage / "train" / f"{chunk}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    write_ledger(path.with_suffix(".ledger.csv"), rows, len(rows))
    return str(path)


@pytest.mark.parametrize("reason", TRANSIENT_REASONS)
def test_transient_losses_of_either_stage_are_tried_again_and_counted_once(tmp_path, reason):
    ok, gone = LedgerRow("a", "ok"), LedgerRow("b", "failed", "unavailable")
    slow = LedgerRow("c", "failed", reason)
    slow_before = LedgerRow("c", "skipped", reason, attempts=0)
    corrupt = LedgerRow("c", "failed", "corrupt")
    download = [
        write_stage(tmp_path, "download", "00000", ok, gone),
        write_stage(tmp_path, "download", "00001", ok, gone, slow),
        write_stage(tmp_path, "download", "00002", ok),
        write_stage(tmp_path, "download", "00003", ok),
    ]
    transcode = [
        str(tmp_path / "toy/transcode/train/00000.json"),  # not made yet
        write_stage(tmp_path, "transcode", "00001", ok, slow_before),
        write_stage(tmp_path, "transcode", "00002", ok, slow),
        write_stage(tmp_path, "transcode", "00003", ok, corrupt),
    ]
    requests = RetryRequests(tmp_path)
    asked = requests.ask({"download": download, "transcode": transcode})
    assert asked == Asked(num_chunks=2, num_clips=2)
    made = {
        (stage, chunk): len(requests.of("toy", stage, "train", chunk))
        for stage in ("download", "transcode")
        for chunk in ("00000", "00001", "00002", "00003")
    }
    assert {key for key, count in made.items() if count} == {
        ("download", "00001"),
        ("transcode", "00002"),
    }


def test_a_local_file_that_was_missing_is_tried_again_once_it_is_there(tmp_path):
    """It stayed lost, whatever target was asked for."""
    with tarfile.open(tmp_path / "here.tar", "w"):
        pass
    names = ("late.mp4", "gone.mp4", "caf\u00e9.mp4", "here.tar::no.mp4", "late.tar::a.mp4")
    path = download(tmp_path, [{"source": name} for name in names])
    ledger = path.with_suffix(".ledger.csv")
    is_there = partial(is_another_now, tmp_path)
    assert count_retried(ledger, is_there) == 0  # an archive without the member is no file later
    for number, name in enumerate(("late.mp4", "cafe\u0301.mp4", "late.tar"), 1):
        (tmp_path / name).write_bytes(b"1")
        assert count_retried(ledger, is_there) == number
    assert count_retried(ledger) == 0


def test_a_mirror_without_the_member_says_nothing_of_the_archive_itself(tmp_path):
    (tmp_path / "late.tar").touch()
    there, absent = "late.tar is not a file", f"{NO_MEMBER} in https://host/m.tar"

    def is_another(detail):
        return is_another_now(tmp_path, SourceFile("late.tar::a.mp4", detail, 0, 0.0))

    assert is_another(f"{there}; before that: {absent}")
    assert not is_another(f"{absent}; before that: {there}")


def test_a_local_file_that_has_changed_is_looked_at_again(tmp_path):
    """A clip that somebody had repaired stayed corrupt, whatever target was asked for."""
    names = ("same.mp4", "longer.mp4", "written.mp4", "gone.mp4", "old.mp4")
    for name in names:
        (tmp_path / name).write_bytes(b"12")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "same.mp4", "b.mp4")
    ledger = download(tmp_path, [{"source": name} for name in (*names, "a.tar::b.mp4")])
    ledger = ledger.with_suffix(".ledger.csv")
    is_another = partial(is_another_now, tmp_path)
    assert count_retried(ledger, is_another) == 0
    seen = ledger.stat().st_mtime
    (tmp_path / "longer.mp4").write_bytes(b"123")
    os.utime(tmp_path / "longer.mp4", (1e9, 1e9))  # unpacked or copied with its time
    os.utime(tmp_path / "written.mp4", (seen + 9, seen + 9))
    os.utime(tmp_path / "a.tar", (seen + 9, seen + 9))
    os.utime(tmp_path / "old.mp4", (seen - 9, seen - 9))
    (tmp_path / "gone.mp4").unlink()
    assert count_retried(ledger, is_another) == 2
    assert count_retried(ledger) == 0


@pytest.mark.slow  # the one that hangs has to wait as long as the others may need
def test_what_broke_off_counts_for_a_retry_and_comes_once_the_server_is_well(tmp_path):
    expected = {"cut.mp4": "truncated", "reset.mp4": "network", "hang.mp4": "timeout"}
    others = {"good.mp4": "", "404": "unavailable"}
    config = DownloadConfig(timeout_seconds=5, max_attempts=1)
    with running_server() as server:
        clips = [{"clip_id": name, "source": server.url(name)} for name in expected | others]
        ledger = download(tmp_path, clips, config).with_suffix(".ledger.csv")
        assert {row.clip_id: row.reason for row in read_ledger(ledger)} == expected | others
        assert count_retried(ledger) == 3
        server.files |= dict.fromkeys(expected, BODY)
        asked = server.requests.copy()
        download(tmp_path, clips, config)
    assert server.requests - asked == dict.fromkeys(expected, 1)
    assert [row.reason for row in read_ledger(ledger)] == ["", "", "", "", "unavailable"]
    assert count_retried(ledger) == 0
