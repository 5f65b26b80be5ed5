"""DVC and Snakemake on the same files: what runs, what does not, and how the two are settled."""

import csv
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.workflow.dvc_views import (
    FINETUNED,
    PRETRAINED,
    digest,
    dvc_stages,
    snakemake_stages,
    sync,
)
from tests.workspace import Workspace, planned_jobs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FINETUNE_CURVE = "results/avsiam_tiny/finetune/digits/history.csv"
BUILT = ("results", ".snakemake")


def metrics_diff(workspace: Workspace, *revisions: str) -> dict[str, dict[str, dict]]:
    """File -> figure -> what DVC says of it: old, new, diff."""
    output = workspace.run("dvc", "metrics", "diff", "--json", *revisions)
    return json.loads(output.strip().splitlines()[-1])


def figures(workspace: Workspace) -> dict[str, dict[str, float]]:
    """The same files and names with their values, read without DVC."""
    found = {}
    for path in (workspace.root / "results").glob("avsiam_tiny/*/digits/summary.json"):
        groups = json.loads(path.read_text()).items()
        flat = {f"{group}.{name}": value for group, row in groups for name, value in row.items()}
        found[str(path.relative_to(workspace.root))] = flat
    return found


def differences(old: dict, new: dict) -> dict[str, dict[str, dict]]:
    """What DVC has to say of two answers of ``figures``."""
    found: dict[str, dict[str, dict]] = {}
    for file, values in old.items():
        for name, before in values.items():
            if (after := new[file][name]) != before:
                row = {"old": before, "new": after, "diff": pytest.approx(after - before)}
                found.setdefault(file, {})[name] = row
    return found


def plots_diff(workspace: Workspace, *revisions: str) -> dict[str, dict[str, list[dict]]]:
    """Title -> revision -> the rows that DVC drew, from the page that it wrote."""
    workspace.run("dvc", "plots", "diff", *revisions, "--out", "curves")
    page = (workspace.root / "curves/index.html").read_text()
    shutil.rmtree(workspace.root / "curves")
    drawn: dict[str, dict[str, list[dict]]] = {}
    for spec in map(json.loads, re.findall(r"var spec = (\{.*\});\n", page)):
        rows = drawn.setdefault(spec["title"]["text"], {})
        for row in spec["data"]["values"]:
            rows.setdefault(row.pop("rev"), []).append(row)
    return drawn


def table(workspace: Workspace, path: str) -> list[dict[str, str]]:
    with (workspace.root / path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def kill_training(run_dir: Path) -> None:
    """kill -9 the training job, which lives outside the process group of ``dvc repro``."""
    job = json.loads((run_dir / "job.json").read_text())
    if psutil.pid_exists(int(job["job_id"])):
        controller = psutil.Process(int(job["job_id"]))
        for process in [*controller.children(recursive=True), controller]:
            process.kill()


@pytest.fixture(scope="module")
def snapshot(versioned, tmp_path_factory):
    """A copy of what was built and of Snakemake's records of it, times and links included."""
    folder = tmp_path_factory.mktemp("snapshot")
    copy_exactly(versioned.root, folder)
    return folder


@pytest.fixture
def restored(versioned, snapshot):
    """The built repository, put back afterwards as both tools know it."""
    yield versioned
    versioned.run("git", "checkout", "--quiet", "--force", "main")
    for name in BUILT:
        shutil.rmtree(versioned.root / name)
    copy_exactly(snapshot, versioned.root)


def copy_exactly(source: Path, target: Path) -> None:
    folders = [source / name for name in BUILT]
    subprocess.run(["cp", "--archive", *folders, target], check=True)


def test_a_second_repro_does_nothing(versioned):
    output = versioned.run("dvc", "repro")
    assert "Data and pipelines are up to date." in output
    assert "Running stage" not in output
    assert planned_jobs(versioned.snakemake("-n", "all")) == {}


def test_only_what_is_worth_keeping_is_versioned(versioned):
    listed = versioned.run("dvc", "list", "-R", "--dvc-only", ".").splitlines()
    assert any(
        re.fullmatch(r"results/digits/shards/train/train-00000\.tar", name) for name in listed
    )
    assert any(name.endswith("pretrain/checkpoint/model.safetensors") for name in listed)
    tars = [name for name in listed if name.endswith(".tar")]
    assert all("/shards/" in name for name in tars)
    assert not [name for name in listed if "/raw/" in name or "optimizer" in name]


# Each a way of its own: a plan, one setting of several stages, an operational key, a network's, a
# run's. Both tools read keys from one table; the rest are further rows of it.
ALL_DATA = {"download", "transcode", "logmel", "shards"} | PRETRAINED
CHANGES = [
    ("plan.chunk_size", 8, ALL_DATA),
    ("pretrain.log_every", 3, set()),
    ("audio.low_freq_hz", 30.0, {"logmel", "shards"} | PRETRAINED),
    ("model.overrides.decoder_depth", 2, PRETRAINED),
    ("evaluate.num_bootstrap", 20, {"evaluate", "probe", "report"}),
    ("report.num_examples", 1, {"probe", "report"}),
    ("runs.avsiam_tiny.finetune", {"lr": 0.5}, FINETUNED),
]
FURTHER = [
    ("download.max_bytes", 10**9, ALL_DATA),
    ("media.jpeg_quality", 5, {"transcode", "logmel", "shards"} | PRETRAINED),
    ("shards.waveform", False, {"shards"} | PRETRAINED),
    ("pretrain.lr", 0.01, PRETRAINED),
    ("finetune.lr", 0.01, FINETUNED),
    ("report.tsne_clips", 6, {"report"}),
    ("submit.poll_seconds", 60, set()),
]


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [*CHANGES, *(pytest.param(*one, marks=pytest.mark.exhaustive) for one in FURTHER)],
)
def test_a_changed_key_makes_the_same_stages_stale_for_both(versioned, key, value, stages):
    before = (versioned.root / "config/config.yaml").read_text()
    try:
        versioned.set(key, value)
        assert dvc_stages(versioned) == stages
        assert snakemake_stages(versioned) == stages
    finally:
        (versioned.root / "config/config.yaml").write_text(before)
        if key.startswith("plan."):
            versioned.snakemake("-n", "all")  # plans the list as it was


@pytest.mark.exhaustive
def test_an_older_experiment_is_brought_back_and_settled(restored):
    before = digest(restored, "avsiam_tiny/**/metrics.json")
    old, curve = figures(restored), table(restored, FINETUNE_CURVE)
    restored.set("finetune.lr", 0.01)
    output = restored.run("dvc", "repro")
    ran = set(re.findall(r"Running stage '([a-z]+)", output))
    assert ran == FINETUNED
    restored.run("git", "checkout", "--quiet", "-b", "higher_lr")
    restored.commit("higher learning rate")
    assert metrics_diff(restored, "main", "higher_lr") == differences(old, figures(restored))
    drawn = plots_diff(restored, "main", "higher_lr")
    assert drawn["pretrain loss"]["main"] == drawn["pretrain loss"]["higher_lr"]
    assert drawn["finetune loss"] == {"main": curve, "higher_lr": table(restored, FINETUNE_CURVE)}
    assert drawn["finetune loss"]["main"] != drawn["finetune loss"]["higher_lr"]
    scores = table(restored, FINETUNE_CURVE.replace("history", "validation"))
    assert drawn["validation accuracy audio_video"]["higher_lr"] == scores

    restored.run("git", "checkout", "--quiet", "main")
    restored.run("dvc", "checkout", "--quiet", "--force")
    assert digest(restored, "avsiam_tiny/**/metrics.json") == before
    assert snakemake_stages(restored) >= {"finetune", "evaluate"}
    lines = sync(restored)
    assert "Snakemake now knows" in lines["finetune_avsiam_tiny_digits"]
    assert planned_jobs(restored.snakemake("-n", "all")) == {}

    restored.set("finetune.lr", 0.02)  # what sync must not take for settled
    assert lines.keys() == (third := sync(restored)).keys()
    assert third["pretrain_avsiam_tiny"] == "up to date for both"
    assert third["finetune_avsiam_tiny_digits"].startswith("out of date")
    assert snakemake_stages(restored) == FINETUNED


@pytest.mark.exhaustive
def test_a_direct_snakemake_run_is_taken_over_by_dvc(restored):
    old = figures(restored)
    restored.set("evaluate.seed", 1)  # other patches are hidden, so the errors on them move
    restored.snakemake("all")
    assert dvc_stages(restored) == {"evaluate", "probe", "report"}
    assert "dvc.lock now has it" in sync(restored)["evaluate_avsiam_tiny_digits"]
    assert dvc_stages(restored) == set()
    told = metrics_diff(restored)
    assert told == differences(old, figures(restored))
    moved = told["results/avsiam_tiny/probe/digits/summary.json"]
    assert moved.keys() >= {"mse.audio", "mse.video"}
    shown = restored.run("dvc", "metrics", "show")
    for file, values in figures(restored).items():
        assert all(name in shown for name in values)
        assert re.search(rf"^{file} .*\b{list(values.values())[-1]}\b", shown, re.MULTILINE)

    metrics = restored.root / "results/avsiam_tiny/eval/digits/metrics.json"
    tampered = {**json.loads(metrics.read_text()), "checkpoint_sha256": "0"}
    metrics.unlink()
    metrics.write_text(json.dumps(tampered))
    assert "another checkpoint_sha256" in sync(restored)["evaluate_avsiam_tiny_digits"]


def test_files_that_dvc_brought_back_are_not_taken_for_current(restored):
    manifests = "digits/transcode/*/*.json"
    restored.set("media.jpeg_quality", 9)
    restored.run("dvc", "repro", "--single-item", "transcode_digits")
    other = digest(restored, manifests)
    restored.run("dvc", "checkout", "--quiet", "--force", "results/digits/transcode", fails=False)
    restored.run("git", "checkout", "--quiet", "dvc.lock")
    restored.run("dvc", "checkout", "--quiet", "--force", "transcode_digits")
    assert digest(restored, manifests) != other
    output = restored.run("dvc", "repro", "--single-item", "transcode_digits")
    assert "transcode_digits: 4 stale manifests dropped" in output
    assert digest(restored, manifests) == other


@pytest.mark.exhaustive
def test_an_interrupted_repro_continues(restored):
    folder = restored.root / "results/digits/transcode"
    counts: list[int] = []

    def third_is_written() -> bool:
        counts.append(len(list(folder.glob("*/[0-9]*.json"))))
        return 0 in counts and counts[-1] >= 3  # the stale ones are gone; two jobs at a time

    restored.set("media.jpeg_quality", 7)
    repro = ("dvc", "repro", "--single-item", "transcode_digits")
    restored.kill_command_when(third_is_written, *repro)
    output = restored.run(*repro)
    assert "transcode_digits: 0 stale manifests dropped" in output
    assert planned_jobs(output)["transcode_clips"] < 4
    status = restored.run("dvc", "status", "transcode_digits")
    assert "changed" not in status


def test_an_interrupted_training_continues(restored):
    run_dir = restored.root / "results/avsiam_tiny/pretrain"
    checkpoints = run_dir / "checkpoints"
    shutil.rmtree(checkpoints)  # those of the 12 steps, to see the first of the longer training
    restored.set("pretrain.epochs", 20)
    repro = ("dvc", "repro", "--single-item", "pretrain_avsiam_tiny")
    restored.kill_command_when(lambda: any(checkpoints.glob("step_*")), *repro)
    kill_training(run_dir)
    saved = max(int(path.name.split("_")[1]) for path in checkpoints.glob("step_*"))
    assert 0 < saved < 60
    assert not (run_dir / "done.json").exists()

    restored.run(*repro)
    log = "".join(path.read_text() for path in run_dir.glob("jobs/*_log.out"))
    assert re.search(rf"resuming \S+ at step {saved} of 60\b", log)
    curve = table(restored, "results/avsiam_tiny/pretrain/history.csv")
    assert [int(row["step"]) for row in curve] == list(range(1, 61))
    assert "changed" not in restored.run("dvc", "status", "pretrain_avsiam_tiny")
    assert dvc_stages(restored) == PRETRAINED - {"pretrain"}


def test_a_second_repro_at_once_is_refused(versioned):
    log = versioned.root / "results/logs/report_results.log"
    log.unlink(missing_ok=True)
    first = versioned.start_command("dvc", "repro", "--force", "--single-item", "report")
    try:
        while not log.exists():
            assert first.poll() is None
            time.sleep(0.05)
        refused = versioned.run("dvc", "repro", "--force", "--single-item", "report", fails=True)
        told = versioned.run("python", "-m", "pipeline_src", "sync", fails=True)
    finally:
        output = first.communicate(timeout=100)[0]
    assert first.returncode == 0, output[-2000:]
    assert "is being blocked by" in refused
    assert f"(PID {first.pid})" in refused
    assert "another DVC command works in this checkout, wait for it" in told


@pytest.mark.exhaustive
def test_an_experiment_and_a_queued_one(restored):
    setting = "config/config.yaml:report.tsne_clips=6"
    output = restored.run("dvc", "exp", "run", "--name", "here", "-S", setting)
    assert re.findall(r"Running stage '(\w+)'", output) == ["report"]
    restored.run("git", "checkout", "--quiet", "--force", "main")
    restored.run("dvc", "checkout", "--quiet", "--force")
    setting = "config/config.yaml:evaluate.num_bootstrap=25"
    restored.run("dvc", "exp", "run", "--queue", "--name", "queued", "-S", setting)
    restored.run("dvc", "queue", "start")
    deadline = time.monotonic() + 120
    while "Running" in (state := restored.run("dvc", "queue", "status")) or "Queued" in state:
        assert time.monotonic() < deadline, state
        time.sleep(1)
    assert re.search(r"queued\s.*Success", state), restored.run("dvc", "queue", "logs", "queued")
    table = restored.run("dvc", "exp", "show", "--csv")
    assert "here" in table
    assert "queued" in table


def test_the_doctor_names_what_is_wrong(restored):
    output = restored.run("python", "-m", "pipeline_src", "doctor")
    assert "ok     dvc.yaml fits config/config.yaml" in output
    assert "DVC and Snakemake agree" in output
    (restored.root / "slurm").unlink()
    restored.set("runs.second", {})
    output = restored.run("python", "-m", "pipeline_src", "doctor", fails=True)
    assert "broken slurm is no link to profiles/slurm: " in output
    assert "python -m pipeline_src stages --write" in output
    assert "Traceback" not in output
