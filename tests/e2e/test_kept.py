"""What was made is kept: by copies, new times and settings that say how; and nothing else is."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.workspace import Workspace, planned_jobs

pytestmark = pytest.mark.e2e

TINY = ("--workflow-profile", "test")
RUN = "results/test/avsiam_tiny"


@pytest.fixture(scope="module")
def kept(built, tmp_path_factory):
    """A copy of the built run that the tests of this file may change."""
    return built.copied_to(tmp_path_factory.mktemp("kept"))


def plan(workspace, *arguments):
    return planned_jobs(workspace.snakemake("-n", *TINY, *arguments, "--", "all"))


def test_new_times_of_scripts_and_modules_decide_nothing(kept):
    for path in [*kept.root.glob("workflow/scripts/*.py"), *kept.root.glob("workflow/rules/*")]:
        os.utime(path)
    assert plan(kept) == {}


def test_a_copy_with_new_times_has_nothing_to_do_wherever_its_results_lie(kept, tmp_path):
    subprocess.run(["cp", "-r", kept.root, tmp_path / "copy"], check=True)
    copy = Workspace.opened(tmp_path, kept.env)
    assert plan(copy) == {}
    results, memory = copy.root / "results", Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == results.stat().st_dev:
        pytest.skip("no second file system here: /dev/shm is on Linux, as CI is")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        subprocess.run(["cp", "-r", results, elsewhere], check=True)
        shutil.rmtree(results)
        results.symlink_to(Path(elsewhere, "results"))
        assert plan(copy) == {}


def test_settings_that_say_how_make_nothing_again(kept):
    output = kept.snakemake("-n", *TINY, "--config", "pretrain={num_workers: 1}", "--", "all")
    assert planned_jobs(output) == {}
    assert "is no longer as results/test/avsiam_tiny/config.yaml says" in output
    assert "pretrain.num_workers 2 -> 1; nothing is made again for it" in output


def test_a_setting_that_counts_is_said_and_made_again(kept):
    output = kept.snakemake("-n", *TINY, "--config", "finetune={lr: 0.125}", "--", "all")
    assert planned_jobs(output)["finetune_model"] == 1
    assert "finetune.lr " in output
    assert "nothing is made again" not in output


def test_a_finished_training_needs_no_checkpoints_to_stay_finished(kept):
    folder = kept.root / RUN / "pretrain"
    before = (folder / "done.json").read_text(), (folder / "metrics.jsonl").read_text()
    shutil.rmtree(folder / "checkpoints")
    arguments = ("--config", "pretrain={log_every: 2}", "--forcerun", "pretrain_model")
    kept.snakemake(*TINY, *arguments, "--until", "pretrain_model", "--", "all")
    assert ((folder / "done.json").read_text(), (folder / "metrics.jsonl").read_text()) == before
    assert not (folder / "superseded").exists()


def test_results_of_one_split_without_records_are_kept(kept, tmp_path):
    """After `pretrain` there is the training split alone; all of it was made again."""
    clone = Workspace.make(tmp_path, kept.env)
    results = clone.root / "results"
    shutil.copytree(kept.root / "results", results, copy_function=shutil.copy, dirs_exist_ok=True)
    for stage in ("download", "transcode", "logmel", "shards"):
        folder = results / "test/digits" / stage
        for path in (folder / "val", folder / "test", folder / "ledger.parquet"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name in ("finetune", "eval", "probe"):
        shutil.rmtree(clone.root / RUN / name)
    output = clone.snakemake("-n", *TINY, "--", "pretrain")
    assert "that fit the configuration are kept" in output
    assert "failed" not in output
    assert set(planned_jobs(output)) <= {"resolve_config", "pretrain", "total"}


def test_indexes_without_records_that_keep_what_is_left_out_now_are_made_again(kept, tmp_path):
    """They were entered as current: duplicates would have been trained on."""
    clone = Workspace.make(tmp_path, kept.env)
    arrived = {"copy_function": shutil.copy, "dirs_exist_ok": True}
    shutil.copytree(kept.root / "results", clone.root / "results", **arrived)
    indexes = [f"results/test/digits/shards/{one}/index.json" for one in ("train", "val", "test")]
    changed = ("--config", "shards={exclude_flags: [duplicate]}", "--")
    output = clone.snakemake("-n", *TINY, *changed, *indexes)
    assert planned_jobs(output) == {"pack_index": 3}
    assert "that fit the configuration are kept" in output
    assert "MissingInput" not in output


@pytest.mark.exhaustive
def test_one_file_whose_input_did_not_come_along_costs_the_others_nothing(kept, tmp_path):
    clone = Workspace.make(tmp_path, kept.env)
    arrived = {"copy_function": shutil.copy, "dirs_exist_ok": True}
    shutil.copytree(kept.root / "results", clone.root / "results", **arrived)
    (clone.root / "results/test/digits/logmel/val/00000.json").unlink()
    targets = [f"results/test/digits/shards/{split}/index.json" for split in ("train", "val")]
    jobs = planned_jobs(clone.snakemake("-n", *TINY, "--", *targets))
    assert jobs == {"extract_logmel": 1, "pack_shard": 1, "pack_index": 1}


@pytest.mark.exhaustive
def test_results_without_records_are_judged_by_what_they_say(kept, tmp_path):
    clone = Workspace.make(tmp_path, kept.env)
    clone.snakemake(*TINY, "--", f"{RUN}/config.yaml")  # one record is there already
    arrived = {"copy_function": shutil.copy, "dirs_exist_ok": True}
    shutil.copytree(kept.root / "results", clone.root / "results", **arrived)
    shutil.rmtree(clone.root / RUN / "probe")
    manifest = clone.root / "results/test/digits/transcode/val/00000.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "origin": "made with other settings"}))
    output = clone.snakemake("-n", *TINY, "--", "all")
    assert "came without Snakemake's records" in output
    jobs = planned_jobs(output)
    assert jobs["transcode_clips"] == jobs["evaluate_pretrained"] == 1
    assert "download_clips" not in jobs
    changed = planned_jobs(
        clone.snakemake("-n", *TINY, "--config", "audio={num_mel_bins: 64}", "--", "all")
    )
    assert changed["extract_logmel"] == 4  # the records speak again
