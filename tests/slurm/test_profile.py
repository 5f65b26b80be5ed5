"""``snakemake --profile slurm all`` from a fresh clone with an empty home, on three nodes."""

import json
import re

import pytest

from tests.slurm.conftest import FROM_SCRATCH
from tests.slurm.training import SLURM, TWO_NODES
from tests.workspace import planned_jobs

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
STAGES = ("download_clips", "transcode_clips", "extract_logmel", "pack_shard")


@pytest.fixture(scope="module")
def one_process(built, tmp_path_factory):
    """The same run, trained by one process on this machine."""
    workspace = built.copied_to(tmp_path_factory.mktemp("one_process"))
    workspace.snakemake("--workflow-profile", "test", "--config", FROM_SCRATCH, "--", "all")
    return workspace


def read(workspace, name):
    return json.loads((workspace.root / "results/test" / name).read_text())


def losses(workspace, name):
    path = workspace.root / "results/test" / name / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_chunk_jobs_go_out_as_arrays(on_cluster, cluster):
    """Chunks that are ready together: always the first stage, the later ones as they come."""
    jobs = cluster.run("scontrol", "show", "job", "--oneliner").splitlines()
    ours = [line for line in jobs if f"WorkDir={on_cluster.root}" in line.split()]
    arrays = [line for line in ours if "ArrayTaskId=" in line]
    rules = [re.search(r"Comment=rule_(\w+?)_wildcards", line)[1] for line in arrays]
    assert rules.count("download_clips") == 4
    assert set(rules) <= set(STAGES)
    assert {re.search(r"NodeList=(n\d)", line)[1] for line in arrays} <= {"n1", "n2", "n3"}


def test_training_is_one_job_over_two_nodes_with_their_gpus(on_cluster, cluster):
    for stage in ("avsiam_tiny/pretrain", "avsiam_tiny/finetune/digits"):
        job = read(on_cluster, f"{stage}/job.json")
        line = cluster.run("scontrol", "show", "job", "--oneliner", job["job_id"])
        assert "NumNodes=2 " in line
        assert "JobState=COMPLETED" in line
        logs = on_cluster.root / f"results/test/{stage}/jobs"
        ranks = [path.read_text() for path in logs.glob(f"{job['job_id']}_*_log.out")]
        assert len(ranks) == 2


def test_the_report_is_there_and_nothing_is_left_to_do(on_cluster, cluster):
    assert (on_cluster.root / "results/test/report/index.html").is_file()
    again = on_cluster.snakemake("-n", *SLURM, *TWO_NODES, "--config", FROM_SCRATCH, "--", "all")
    assert planned_jobs(again) == {}
    assert set(cluster.jobs().values()) <= {"COMPLETING"}


def test_shards_are_those_of_one_machine(on_cluster, one_process):
    for split in ("train", "val", "test"):
        name = f"digits/shards/{split}/index.json"
        assert read(on_cluster, name) == read(one_process, name)


def test_two_ranks_train_as_one_process_does(on_cluster, one_process):
    ours, theirs = (
        losses(workspace, "avsiam_tiny/finetune/digits") for workspace in (on_cluster, one_process)
    )
    assert len(ours) == 12
    assert ours == pytest.approx(theirs, rel=1e-3)  # sums in another order
    masked = [losses(workspace, "avsiam_tiny/pretrain") for workspace in (on_cluster, one_process)]
    assert masked[0] == pytest.approx(masked[1], rel=0.2)  # the same clips, other masks


def test_metrics_are_those_of_one_process(on_cluster, one_process):
    ours, theirs = (
        read(workspace, "avsiam_tiny/eval/digits/metrics.json")
        for workspace in (on_cluster, one_process)
    )
    assert ours["clip_ids_sha256"] == theirs["clip_ids_sha256"]
    for head in ("audio", "video", "audio_video"):
        for name in ("accuracy", "mAP"):
            assert ours[head][name]["value"] == pytest.approx(theirs[head][name]["value"], abs=0.02)
