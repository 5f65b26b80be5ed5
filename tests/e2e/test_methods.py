"""The other methods, and weights from elsewhere, through the same workflow as the tiny run."""

import base64
import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from pipeline_src.methods.common.convert import to_published
from pipeline_src.methods.factory import create_model
from tests.workspace import planned_jobs

pytestmark = pytest.mark.e2e

HEADS = ("audio", "video", "audio_video")
PICTURES = [
    f"{kind}, {part}"
    for kind in ("log-mel", "frame")
    for part in ("input", "masked", "reconstructed")
]  # of a held-out clip


@pytest.fixture(scope="module")
def packed(built, tmp_path_factory):
    """A copy of the built tiny run: its shards and its AVSiam run are there."""
    return built.copied_to(tmp_path_factory.mktemp("packed"))


def read(workspace, name):
    return json.loads((workspace.root / "results/test" / name).read_text())


def with_runs(workspace, **overlays):
    """Arguments of the tiny run with these runs on top."""
    (workspace.root / "runs.yaml").write_text(yaml.safe_dump({"runs": overlays}))
    files = ("config/test/tiny.yaml", "runs.yaml")
    return ("--workflow-profile", "test", "--configfile", *files, "--")


@pytest.mark.exhaustive
def test_cav_mae_goes_from_pretraining_to_the_report(packed):
    recipe = {"contrast_weight": 0.01, "contrast_direction": "v2a", "audio_mask": "unstructured"}
    overlay = {"model": {"method": "cav_mae"}, "pretrain": recipe}
    packed.snakemake(*with_runs(packed, cav_mae_tiny=overlay), "all")
    metrics = read(packed, "cav_mae_tiny/eval/digits/metrics.json")
    assert all(0 <= metrics[head]["accuracy"]["value"] <= 1 for head in HEADS)
    probe = read(packed, "cav_mae_tiny/probe/digits/metrics.json")
    assert probe["reconstruction"]["video"]["model"]["value"] > 0
    rows = (packed.root / "results/test/cav_mae_tiny/pretrain/metrics.jsonl").read_text()
    assert "contrast_loss" in rows.splitlines()[-1]
    page = (packed.root / "results/test/report/index.html").read_text()
    assert "cav_mae_tiny" in page
    assert "avsiam_tiny" in page


SEGMENTS = {"clip_length": 96, "segment_centre": "middle"}


@pytest.mark.parametrize("name", ["sync", pytest.param("segments", marks=pytest.mark.exhaustive)])
def test_aligned_segments_go_from_pretraining_to_the_report(packed, name):
    """CAV-MAE Sync with every probe, and CAV-MAE shown the same segments."""
    shared = {
        "pretrain": {"num_frames": 1, "audio_mask": "unstructured"},
        "finetune": {"num_frames": 1, "all_heads": True},
        "evaluate": {"probes": ["linear", "knn", "attentive"]},
    }
    models = {
        "sync": {"method": "cav_mae_sync", "overrides": {**SEGMENTS, "num_segments": 4}},
        "segments": {"method": "cav_mae", "overrides": SEGMENTS},
    }
    overlay = {**shared, "model": {**models[name], "target_length": 48}}
    packed.snakemake(*with_runs(packed, **{name: overlay}), "all")
    metrics = read(packed, f"{name}/eval/digits/metrics.json")
    assert all(0 <= metrics[head]["accuracy"]["value"] <= 1 for head in HEADS)
    probe = read(packed, f"{name}/probe/digits/metrics.json")
    assert set(probe["retrieval"]["by_score"]) == {"diagonal_max", "mean", "max", "clip_mean"}
    assert probe["probes"]["pretrained"]["audio_video"]["attentive"]["num_epochs"] > 0
    with np.load(packed.root / f"results/test/{name}/probe/digits/retrieval.npz") as arrays:
        assert arrays["segment_similarity"].shape[1:] == (4, 4)
    page = (packed.root / "results/test/report/index.html").read_text()
    assert page.count("Cosine of each segment of sound (down)") == 1


MAVIL_RECIPE = {
    "contrast_weight": 0.1,
    "temperature": 0.1,
    "reconstruct_ratio": 0.75,  # of the four video tokens, one stays
    "audio_mask": "unstructured",
}


def pictures_of(page, run):
    """Kind of each picture of held-out clips, such as "frame, masked", and the pictures."""
    _, _, after = page.partition(f"Held-out clips, {run} / digits: ")
    images = re.findall(
        r'<img src="data:image/[^,]+,([^"]+)" alt="([^"]+) of clip \w+, (\w+)"',
        after.partition("Held-out clips, ")[0],
    )
    return [f"{kind}, {part}" for _, kind, part in images], {content for content, *_ in images}


def figures_of(page, run):
    """The run's row of the table of costs, as the page's CSV file has it."""
    after = page.split('download="methods-cost-of-the-runs-on-digits.csv"')[1]
    content = after.split(";base64,")[1].split('"')[0]
    rows = csv.DictReader(base64.b64decode(content).decode().splitlines())
    return next(row for row in rows if row["Run"] == run)


def check_costs(workspace, page, run):
    figures = figures_of(page, run)
    stages = {"pre-training": "pretrain", "fine-tuning": "finetune/digits"}
    for label, stage in stages.items():
        cost = read(workspace, f"{run}/{stage}/done.json")["cost"]
        operations = float(figures[f"TFLOP, {label}"])
        assert operations == pytest.approx(cost["flops"] / 1e12, rel=0.06)  # two figures
        memory = float(figures[f"Memory, MB, {label}"])
        assert memory == pytest.approx(cost["memory_bytes"] / 1e6, abs=0.05)
        assert figures[f"Time, {label}"][0].isdigit()


def check_mavil(packed, run):
    metrics = read(packed, f"{run}/eval/digits/metrics.json")
    assert all(0 <= metrics[head]["accuracy"]["value"] <= 1 for head in HEADS)
    rows = (packed.root / f"results/test/{run}/pretrain/metrics.jsonl").read_text()
    assert {"contrast_loss", "intra_loss", "reconstruct_loss"} <= set(
        json.loads(rows.splitlines()[-1])
    )


@pytest.mark.parametrize("name", [pytest.param("mavil", marks=pytest.mark.exhaustive), "diffmavil"])
def test_mavil_and_diffmavil_go_from_pretraining_to_the_report(packed, name):
    recipes = {
        "mavil": MAVIL_RECIPE,
        "diffmavil": {**MAVIL_RECIPE, "mavil": {"decode_fraction": 0.5}},
    }
    run = f"{name}_tiny"
    overlay = {"model": {"method": name}, "pretrain": recipes[name]}
    packed.snakemake(*with_runs(packed, **{run: overlay}), "all")
    check_mavil(packed, run)
    assert read(packed, f"{run}/probe/digits/metrics.json")["reconstruction"]
    page = (packed.root / "results/test/report/index.html").read_text()
    num_noisy = 2 * 2 if name == "diffmavil" else 0  # log-mel and frame of two clips
    assert page.count("t = 1000") == num_noisy
    kinds, contents = pictures_of(page, run)
    assert kinds == PICTURES * 2
    assert len(contents) == len(kinds)
    check_costs(packed, page, run)


@pytest.mark.exhaustive
def test_a_second_stage_follows_its_teacher(packed):
    teacher = {"model": {"method": "mavil"}, "pretrain": MAVIL_RECIPE}
    overlay = {
        "model": {"method": "mavil", "overrides": {"predicts": "features"}},
        "pretrain": {**MAVIL_RECIPE, "teacher_run": "mavil_tiny"},
    }
    packed.snakemake(*with_runs(packed, mavil_tiny=teacher, mavil_stage2=overlay), "all")
    check_mavil(packed, "mavil_stage2")
    probe = read(packed, "mavil_stage2/probe/digits/metrics.json")
    assert not probe["reconstruction"]  # it predicts no patches
    page = (packed.root / "results/test/report/index.html").read_text()
    assert "Held-out clips, mavil_tiny" in page
    assert "Held-out clips, mavil_stage2" not in page


def write_converted(workspace, name, *arguments, folder, num_classes=0, **shown):
    """Convert random weights of the tiny network, published as ``name``, on the command line.

    Args:
        shown: constructor arguments that the converter reads off the file.
    """
    tiny = yaml.safe_load((workspace.root / "config/test/tiny.yaml").read_text())
    values = {
        **tiny["model"]["overrides"],
        "img_size": tiny["model"]["img_size"],
        "target_length": tiny["model"]["target_length"],
        "num_mel_bins": tiny["audio"]["num_mel_bins"],
    }
    model = create_model(name, variant="released", num_classes=num_classes, **values, **shown)
    torch.save(to_published(model.state_dict(), name, model)[0], workspace.root / "weights.pth")
    settings = [f"--set={key}={value}" for key, value in values.items()]
    command = [sys.executable, "-m", "pipeline_src", "convert", "weights.pth", folder]
    command += ["--model", name, *settings, *arguments]
    subprocess.run(command, cwd=workspace.root, env=workspace.env, check=True)
    return folder


def test_converted_weights_are_evaluated_without_training(packed):
    name = "cav_mae_tiny"
    dataset = ("--dataset", "config/test/digits.yaml")
    finetuned = write_converted(packed, name, *dataset, folder="finetuned", num_classes=4)
    overlay = {
        "model": {"method": "cav_mae"},
        "pretrain": {
            "num_frames": 1,
            "checkpoint": write_converted(packed, name, folder="pretrained"),
        },
        "finetune": {"num_frames": 1, "checkpoint": finetuned},
    }
    arguments = with_runs(packed, avsiam_tiny=None, published=overlay)
    jobs = planned_jobs(packed.snakemake("-n", *arguments, "eval_digits"))
    assert set(jobs) == {"evaluate_finetuned", "evaluate_pretrained", "eval_digits"}
    packed.snakemake(*arguments, "eval_digits")
    metrics = read(packed, "published/eval/digits/metrics.json")
    done = json.loads((packed.root / finetuned / "done.json").read_text())
    assert metrics["checkpoint_sha256"] == done["sha256"]


@pytest.mark.exhaustive
def test_every_released_classifier_of_cav_mae_sync_is_converted_and_scored(packed):
    scored = {"pairs": ("audio_video",), "single": ("audio", "video"), "frame": ("audio", "video")}
    overlays = {}
    for classifier in scored:
        folder = write_converted(
            packed, "cav_mae_sync_tiny", "--variant=released",
            "--dataset=config/test/digits.yaml", folder=f"sync_{classifier}", num_classes=4,
            classifier=classifier,
        )  # fmt: skip
        overlays[classifier] = {
            "model": {"method": "cav_mae_sync", "overrides": {"classifier": classifier}},
            "pretrain": {"num_frames": 1},
            "finetune": {"num_frames": 1, "checkpoint": folder},
        }
    targets = [f"results/test/{name}/eval/digits/metrics.json" for name in overlays]
    packed.snakemake(*with_runs(packed, **overlays), *targets)
    for classifier, heads in scored.items():
        metrics = read(packed, f"{classifier}/eval/digits/metrics.json")
        assert tuple(metrics["heads"]) == heads
        assert all(0 <= metrics[head]["accuracy"]["value"] <= 1 for head in heads)
        assert set(metrics["retrieval"]) >= {"audio_to_video", "video_to_audio"}


def write_test_set(workspace, num_listed, *unknown):
    """The digits' test clips alone under another name; their first ``num_listed`` the gallery."""
    folder = workspace.root / "config/test"
    header, *rows = (folder / "digits.csv").read_text().splitlines()
    tests = [row for row in rows if row.endswith(",test")]
    (folder / "unseen.csv").write_text("\n".join([header, *tests]) + "\n")
    listed = [row.split(",")[0] for row in tests[:num_listed]]
    (folder / "gallery.txt").write_text("\n".join([*listed, *unknown]))
    text = (folder / "digits.yaml").read_text().replace("digits.csv", "unseen.csv")
    text = text.replace("name: digits", "name: unseen") + "\nretrieval_clips: gallery.txt\n"
    (folder / "unseen.yaml").write_text(text)


@pytest.mark.exhaustive
def test_a_pretraining_is_scored_on_data_that_it_never_saw_without_fine_tuning(packed):
    write_test_set(packed, 5, "nowhere")
    converted = write_converted(
        packed, "avsiam_tiny", "--trained-on", "config/test/digits.yaml", folder="encoder"
    )
    overlay = {
        "pretrain": {"num_frames": 1, "checkpoint": converted},
        "finetune": {"num_frames": 1, "skip": True},
    }
    arguments = with_runs(packed, avsiam_tiny=None, zero_shot=overlay)
    datasets = ("--config", 'datasets=["config/test/unseen.yaml"]', "results=results/zero")
    arguments = (*arguments[:-1], *datasets, "--")
    packed.snakemake(*arguments, "all")
    folder = packed.root / "results/zero"
    assert not list(folder.glob("*/finetune")) + list(folder.glob("*/eval"))
    metrics = json.loads((folder / "zero_shot/probe/unseen/metrics.json").read_text())
    assert metrics["probes"] == metrics["reconstruction"] == {}
    retrieval = metrics["retrieval"]
    done = json.loads((packed.root / converted / "done.json").read_text())
    assert retrieval["checkpoint_sha256"] == done["sha256"]
    named = (retrieval["trained_on"], retrieval["scored_on"], retrieval["zero_shot"])
    assert named == (["digits"], "unseen/test", True)
    assert retrieval["gallery_size"] == retrieval["gallery"]["num_found"] == 5
    assert retrieval["gallery"]["unknown"] == ["nowhere"]
    assert "on digits, zero-shot" in (folder / "report/index.html").read_text()


@pytest.mark.exhaustive
def test_a_checkpoint_of_another_network_is_refused(packed):
    dataset = ("--dataset", "config/test/digits.yaml")
    write_converted(packed, "avsiam_tiny", *dataset, folder="other", num_classes=4)
    overlay = {"model": {"method": "cav_mae"}, "finetune": {"checkpoint": "other"}}
    target = "results/test/wrong/eval/digits/metrics.json"
    packed.snakemake(*with_runs(packed, wrong=overlay), target, fails=True)
    log = packed.root / "results/test/logs/evaluate_finetuned/wrong/digits.log"
    assert "holds avsiam_tiny, the run's model is cav_mae_tiny" in log.read_text()
    missing = {"finetune": {"checkpoint": "nowhere"}}
    output = packed.snakemake("-n", *with_runs(packed, wrong=missing), target, fails=True)
    assert "nowhere/done.json does not exist" in output
