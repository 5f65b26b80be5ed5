"""The tiny run, from raw video to report: what it writes, and what a change makes again."""

import fcntl
import json
import shutil
from importlib.metadata import version

import pytest
import torch
import webdataset as wds
from safetensors.torch import load_file

from pipeline_src.transcode.ffmpeg import ffmpeg_version
from tests.workspace import planned_jobs

pytestmark = pytest.mark.e2e

TINY = ("--workflow-profile", "test")
AFTER_FINETUNE = {"finetune_model", "evaluate_finetuned", "resolve_config", "report_results", "all"}
AFTER_PRETRAIN = AFTER_FINETUNE | {"pretrain_model", "evaluate_pretrained"}
PACKED = {"pack_shard", "pack_index", "pack_ledger"}
AFTER_LOGMEL = AFTER_PRETRAIN - {"resolve_config"} | {"extract_logmel"} | PACKED
AFTER_TRANSCODE = AFTER_LOGMEL | {"transcode_clips"}
AFTER_EVALUATE = {"evaluate_finetuned", "evaluate_pretrained", "resolve_config", "report_results"}


def read(workspace, name):
    return json.loads((workspace.root / "results/test" / name).read_text())


def test_every_clip_is_accounted_for(built):
    for split, num_clips in (("train", 24), ("val", 8), ("test", 8)):
        index = read(built, f"digits/shards/{split}/index.json")
        assert (index["num_clips"], index["num_clips_in_list"]) == (num_clips, num_clips)
    assert index["class_names"] == ["zero", "one", "two", "three"]


def test_shards_are_webdataset(built):
    folder = built.root / "results/test/digits/shards/train"
    urls = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    samples = list(wds.WebDataset(urls, shardshuffle=False))
    assert len(samples) == 24
    suffixes = {key for key in samples[0] if not key.startswith("__")}
    frames = {f"frame_{k:02d}.jpg" for k in range(4)}
    assert suffixes == {"logmel.npy", "json", "flac"} | frames


def test_metrics_say_what_they_were_computed_on(built):
    metrics = read(built, "avsiam_tiny/eval/digits/metrics.json")
    assert metrics["num_clips"] == metrics["num_clips_in_list"] == 8
    index = read(built, "digits/shards/test/index.json")
    assert metrics["clip_ids_sha256"] == index["clip_ids_sha256"]
    done = read(built, "avsiam_tiny/finetune/digits/done.json")
    assert metrics["checkpoint_sha256"] == done["sha256"]
    for head in ("audio", "video", "audio_video"):
        interval = metrics[head]["accuracy"]
        assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
    assert metrics["retrieval"]["gallery_size"] == 8
    assert metrics["versions"]["yt-dlp"] == version("yt-dlp")
    assert metrics["versions"]["ffmpeg"] == ffmpeg_version() != "absent"


def test_a_training_records_what_it_cost(built):
    for stage in ("pretrain", "finetune/digits"):
        done = read(built, f"avsiam_tiny/{stage}/done.json")
        assert done["cost"]["flops_per_clip"] > 0
        assert done["cost"]["flops"] == done["cost"]["flops_per_clip"] * done["samples_seen"]


def test_pretraining_is_compared_with_the_untrained_network(built):
    probe = read(built, "avsiam_tiny/probe/digits/metrics.json")
    assert set(probe["probes"]) == {"pretrained", "untrained"}
    assert probe["reconstruction"]["audio"]["model"]["value"] > 0


def test_the_report_stands_alone(built):
    page = (built.root / "results/test/report/index.html").read_text()
    assert "avsiam_tiny" in page
    assert "<script src" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_what_a_data_set_takes_is_measured_on_what_was_made(built):
    command = (
        "-m",
        "pipeline_src",
        "estimate",
        "config/test/digits.yaml",
        "config/test/tiny.yaml",
    )
    rows = [line.split(maxsplit=5) for line in built.run("python", *command).splitlines()]
    measured = {row[0]: row for row in rows if row and row[-1] == "jobs of 4 chunks"}
    assert list(measured) == ["download", "transcode", "logmel", "shards"]
    assert {row[1] for row in measured.values()} == {"4"}


def test_a_second_run_has_nothing_to_do(built):
    assert planned_jobs(built.snakemake("-n", *TINY, "all")) == {}


@pytest.mark.parametrize("missing", [[], ["avsiam_tiny/eval/digits/metrics.json"]])
def test_a_shard_whose_manifest_was_deleted_is_made_again(built, missing):
    """As every message of a damaged shard says, whether or not somebody waits for its clips."""
    results = built.root / "results/test"
    gone = [results / path for path in ("digits/shards/test/00000.json", *missing)]
    for path in gone:
        path.rename(path.with_suffix(".gone"))
    try:
        planned = planned_jobs(built.snakemake("-n", *TINY, "all"))
    finally:
        for path in gone:
            path.with_suffix(".gone").rename(path)
    assert planned["pack_shard"] == planned["pack_index"] == 1
    assert "pretrain_model" not in planned
    assert planned_jobs(built.snakemake("-n", *TINY, "all")) == {}


def test_a_run_that_was_deleted_is_made_again_and_lost_weights_alone_are_not(built):
    """Scores that are there need no weights, which people delete for their size."""
    run = built.root / "results/test/avsiam_tiny"
    planned = {}
    for path in (run, run / "pretrain"):
        path.rename(path.with_suffix(".gone"))
        try:
            planned[path.name] = planned_jobs(built.snakemake("-n", *TINY, "all"))
        finally:
            path.with_suffix(".gone").rename(path)
    trained = {"pretrain_model", "finetune_model", "evaluate_finetuned", "evaluate_pretrained"}
    assert trained | {"report_results"} <= planned["avsiam_tiny"].keys()
    assert planned["pretrain"] == {}


@pytest.mark.parametrize(
    ("change", "rerun"),
    [
        ("finetune={lr: 0.01}", AFTER_FINETUNE),
        ("pretrain={lr: 0.01}", AFTER_PRETRAIN),
        ("audio={low_freq_hz: 30}", AFTER_LOGMEL),
        ("media={jpeg_quality: 5}", AFTER_TRANSCODE),
        ("evaluate={num_bootstrap: 20}", AFTER_EVALUATE | {"all"}),
        ("report={tsne_clips: 6}", {"report_results", "all"}),
        ("submit={poll_seconds: 2}", set()),
    ],
)
def test_a_change_makes_only_what_depends_on_it(built, change, rerun):
    output = built.snakemake("-n", *TINY, "--config", change, "--", "all")
    assert set(planned_jobs(output)) == rerun


def test_a_second_workflow_on_the_same_results_is_refused(built):
    with (built.root / "results/test/.lock").open("a+") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        holder.truncate(0)
        holder.write("process 1 on elsewhere\n")
        holder.flush()
        output = built.snakemake(
            *TINY, "--config", "report={tsne_clips: 6}", "--", "all", fails=True
        )
        replanned = built.snakemake(
            "-n", *TINY, "--config", "plan={chunk_size: 6}", "--", "all", fails=True
        )
    for refusal in (output, replanned):
        assert "results/test is in use by process 1 on elsewhere" in refusal
    assert "--config results=" in output


@pytest.fixture(scope="module")
def two_ranks(built):
    """Losses of the tiny pre-training on two ranks, by how they share the network.

    One recomputes activations. In fp32: how far bfloat16 sums of another order are apart differs
    between processors.
    """

    def train(parallel):
        spec = read(built, "avsiam_tiny/pretrain/spec.json")
        spec["run_dir"] = f"results/{parallel}/pretrain"
        spec["recipe"] |= {"parallel": parallel, "amp": False}
        spec["recipe"]["activation_checkpointing"] = parallel == "fsdp"
        path = built.root / f"results/{parallel}.json"
        path.write_text(json.dumps(spec))
        built.run("torchrun", "--nproc-per-node", "2", "-m", "pipeline_src.train", str(path))
        return pretrain_losses(built.root / spec["run_dir"])

    return {parallel: train(parallel) for parallel in ("ddp", "fsdp")}


def pretrain_losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows]


def test_two_ranks_share_a_training(built, two_ranks):
    alone = pretrain_losses(built.root / "results/test/avsiam_tiny/pretrain")
    assert two_ranks["ddp"] == pytest.approx(alone, rel=0.2)  # other masks, same clips


def test_ranks_with_a_part_of_the_network_train_as_ranks_with_copies(built, two_ranks):
    assert two_ranks["fsdp"] == pytest.approx(two_ranks["ddp"], rel=1e-5)
    whole, parts = (
        load_file(built.root / f"results/{parallel}/pretrain/checkpoint/model.safetensors")
        for parallel in ("ddp", "fsdp")
    )
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        ours, theirs = (without_key_bias(name, one) for one in (parts[name], value))
        assert torch.allclose(ours, theirs, atol=1e-4), name


def without_key_bias(name, value):
    """All but biases of keys: their gradient is rounding alone, which Adam makes whole steps of."""
    if not name.endswith("attn.qkv.bias"):
        return value
    query, _, values = value.chunk(3)
    return torch.cat([query, values])


def test_ranks_with_a_part_of_the_network_resume(built, two_ranks):
    folder = built.root / "results/fsdp/pretrain"
    *_, newest = sorted(folder.glob("checkpoints/step_*"))
    shutil.rmtree(newest)
    (folder / "done.json").unlink()
    shutil.rmtree(folder / "checkpoint")  # else it is finished, and only published again
    assert list(folder.glob("checkpoints/step_*"))
    output = built.run(
        "torchrun", "--nproc-per-node", "2", "-m", "pipeline_src.train", "results/fsdp.json"
    )
    assert "resuming results/fsdp/pretrain at step" in output
    assert pretrain_losses(folder) == pytest.approx(two_ranks["fsdp"], rel=1e-6)
