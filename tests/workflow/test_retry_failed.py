"""``retry_failed_<dataset>`` tries what failed for a time only, and packs it with the rest."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from tests.media import make_clip
from tests.server import running_server
from tests.workspace import Workspace, planned_jobs

pytestmark = pytest.mark.slow

# Chunks of three clips: one all good, one with an error of the server, one with a 429.
WORDS = ("good", "good", "good", "good", "ill", "404", "limit", "good", "good")
OVERLAY = """\
results: results/web
plan: {chunk_size: 3}
network: {requests_per_second: 0, backoff_seconds: 0.01, pause_seconds: 0.1, max_pause_seconds: 0.2}
download: {max_attempts: 2}
shards: {max_failed_fraction: 0.9}
"""


@pytest.fixture
def web(tmp_path, shell_env):
    """A workspace with the data set ``web``, whose clips lie on a server that is ill at first."""
    with running_server() as server:
        clip = make_clip(tmp_path / "clip.mp4", seconds=1).read_bytes()
        server.body = clip
        workspace = Workspace.make(tmp_path, shell_env)
        with (tmp_path / "web.csv").open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(("clip_id", "source", "start_seconds", "end_seconds", "labels", "split"))
            for number, word in enumerate(WORDS):
                source = server.url(f"{word}-{number}.mp4")
                if word == "limit":  # a host of its own: its pauses are not the other chunks'
                    source = source.replace("127.0.0.1", "localhost")
                rows.writerow((f"c{number}", source, "", "", number % 2, "train"))
        (tmp_path / "classes.csv").write_text("index,id,display_name\n0,0,zero\n1,1,one\n")
        description = "name: web\ntask: multiclass\nclip_list: web.csv\nclass_names: classes.csv\n"
        (tmp_path / "web.yaml").write_text(description)
        overlay = OVERLAY + f"datasets: [{tmp_path / 'web.yaml'}]\n"
        (tmp_path / "overlay.yaml").write_text(overlay)
        yield workspace, server, tmp_path / "overlay.yaml"


@pytest.mark.exhaustive
def test_only_what_failed_for_a_time_is_fetched_again(web):
    workspace, server, overlay = web
    flags = ("--workflow-profile", "test", "--configfile", str(overlay), "--")
    workspace.snakemake(*flags, "shards_web")
    index = workspace.root / "results/web/web/shards/train/index.json"
    assert json.loads(index.read_text())["num_clips"] == 6
    asked = server.requests.copy()
    good, *others = sorted(index.parent.glob("*.tar"))
    packed_at = good.stat().st_mtime_ns
    before = [path.read_bytes() for path in others]

    plan = ("-n", *flags, "retry_failed_web")
    expected = {"request_retry": 2, "download_clips": 2}
    output = workspace.snakemake(*plan)
    assert planned_jobs(output).items() >= expected.items()
    assert "in 2 chunks are tried again" in output
    assert "2 clips with transient failures, or whose local files" in output
    assert not (workspace.root / "results/web/web/retry").exists()

    workspace.snakemake(*flags, "retry_failed_web")  # still ill
    assert set(server.requests - asked) == {"ill-4.mp4", "limit-6.mp4"}
    assert [path.read_bytes() for path in others] == before

    server.is_ill = False
    asked = server.requests.copy()
    workspace.snakemake(*flags, "retry_failed_web")
    assert server.requests - asked == {"ill-4.mp4": 1, "limit-6.mp4": 1}
    assert json.loads(index.read_text())["num_clips"] == 8
    ledger = pq.read_table(index.parents[1] / "ledger.parquet").to_pydict()
    assert ledger["clip_id"] == [f"c{number}" for number in range(len(WORDS))]
    assert ledger["attempts"] == [1, 1, 1, 1, 5, 1, 1, 1, 1]
    assert ledger["reason"] == ["", "", "", "", "", "unavailable", "", "", ""]
    assert ledger["stage"] == ["download" if end else "shards" for end in ledger["reason"]]
    assert ledger["duration_seconds"] == [None if end else 1.0 for end in ledger["reason"]]
    assert good.stat().st_mtime_ns == packed_at
    assert all(path.read_bytes() != old for path, old in zip(others, before, strict=True))

    asked = server.requests.copy()
    jobs = planned_jobs(workspace.snakemake("-n", *flags, "retry_failed_web"))
    assert set(jobs) <= {"retry_failed_web"}

    decode_timeout_is_tried_again(workspace, flags)
    assert not server.requests - asked


def decode_timeout_is_tried_again(workspace, flags):
    folder = workspace.root / "results/web/web"
    ledger = folder / "transcode/train/00000.ledger.csv"
    whole = ledger.read_text()
    # As a machine under load would have left it.
    ledger.write_text(whole.replace("c1,ok,,1,,", "c1,failed,timeout,1,,killed"))
    assert ledger.read_text() != whole
    plan = planned_jobs(workspace.snakemake("-n", *flags, "retry_failed_web"))
    assert plan.items() >= {"request_retry": 1, "transcode_clips": 1, "extract_logmel": 1}.items()
    assert "download_clips" not in plan
    workspace.snakemake(*flags, "retry_failed_web")
    assert ledger.read_text() == whole
    assert (folder / "retry/transcode/train/00000.001").is_file()
    assert planned_jobs(workspace.snakemake("-n", *flags, "shards_web")) == {}


def test_a_repaired_local_file_is_taken(tmp_path, shell_env):
    workspace = Workspace.make(tmp_path, shell_env)
    clip = make_clip(tmp_path / "clip.mp4", seconds=1).read_bytes()
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(clip if number else clip[: len(clip) // 2])
    rows = "".join(f"c{number},{number}.mp4,,,{number % 2},train\n" for number in range(3))
    columns = "clip_id,source,start_seconds,end_seconds,labels,split"
    (tmp_path / "own.csv").write_text(f"{columns}\n{rows}")
    (tmp_path / "own.yaml").write_text("name: own\ntask: multiclass\nclip_list: own.csv\n")
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        f"datasets: [{tmp_path / 'own.yaml'}]\nplan: {{chunk_size: 2}}\n"
        "shards: {max_failed_fraction: 0.9}\n"
    )
    flags = ("--workflow-profile", "test", "--configfile", str(overlay), "--")
    workspace.snakemake(*flags, "shards_own")
    index = workspace.root / "results/own/shards/train/index.json"
    assert json.loads(index.read_text())["num_clips"] == 2
    plan = planned_jobs(workspace.snakemake("-n", *flags, "retry_failed_own"))
    assert "download_clips" not in plan
    (tmp_path / "0.mp4").write_bytes(clip)
    plan = planned_jobs(workspace.snakemake("-n", *flags, "retry_failed_own"))
    assert plan.items() >= {"download_clips": 1, "transcode_clips": 1}.items()
    workspace.snakemake(*flags, "retry_failed_own")
    assert json.loads(index.read_text())["num_clips"] == 3
    assert set(planned_jobs(workspace.snakemake("-n", *flags, "retry_failed_own"))) <= {
        "retry_failed_own"
    }
