"""Which chunks ``retry_failed_<dataset>`` makes again."""

from pipeline_src.ledger import LedgerRow, write_ledger
from pipeline_src.manifest.retries import Asked, RetryRequests


def write_stage(results, stage, chunk, *rows):
    path = results / "toy" / stage / "train" / f"{chunk}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    write_ledger(path.with_suffix(".ledger.csv"), rows, len(rows))
    return str(path)


def test_time_outs_of_either_stage_are_tried_again_and_counted_once(tmp_path):
    ok, gone = LedgerRow("a", "ok"), LedgerRow("b", "failed", "unavailable")
    slow = LedgerRow("c", "failed", "timeout")
    slow_before = LedgerRow("c", "skipped", "timeout", attempts=0)
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
