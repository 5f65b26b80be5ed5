"""The report page from files like those that the stages write, whole and with parts missing."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline_src.errors import StageError
from pipeline_src.eval.intervals import bootstrap_means, classification_intervals
from pipeline_src.eval.retrieval import retrieval_metrics
from pipeline_src.report.build import build_report
from pipeline_src.report.load import read_record
from pipeline_src.report.records import EvalMetrics
from pipeline_src.report.table import format_table, main

NUM_CLASSES = 6
CLASS_NAMES = ["zero", "one", "two", "three", "four", "five & <six>"]
SIGNALS = {"audio": 2.0, "video": 3.5, "audio_video": 5.0}
CONFIG = SimpleNamespace(num_examples=2, tsne_clips=40)
EXTERNAL = re.compile(r"""(?:src|href)\s*=\s*["'](?!data:|#)|url\((?!#)|@import""")


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, allow_nan=False))
    return path


def fake_embeddings(rng, targets, strength):
    centres = rng.standard_normal((targets.shape[1], 16))
    audio = targets @ centres + 0.7 * rng.standard_normal((len(targets), 16))
    return audio, strength * audio + rng.standard_normal(audio.shape)


def write_evaluation(root, run, *, dataset="digits", num_clips=60, task="multiclass", seed=0):
    rng = np.random.default_rng(seed)
    targets = np.eye(NUM_CLASSES, dtype=int)[np.arange(num_clips) % NUM_CLASSES]
    if task == "multilabel":
        targets |= rng.random(targets.shape) < 0.2
    options = {"task": task, "num_resamples": 100, "seed": 0}
    scores = {
        modality: 1 / (1 + np.exp(-rng.standard_normal(targets.shape) - strength * targets))
        for modality, strength in SIGNALS.items()
    }
    audio, video = fake_embeddings(rng, targets, 0.8)
    retrieval = retrieval_metrics(audio, video, num_resamples=100, seed=0)
    folder = root / run / "eval" / dataset
    path = write_json(
        folder / "metrics.json",
        {
            "run": run, "dataset": dataset, "split": "test", "task": task,
            "num_clips": num_clips, "num_clips_in_list": num_clips + 2,
            "clip_ids_sha256": "ab" * 32, "num_frames": 4,
            **{m: classification_intervals(s, targets, **options) for m, s in scores.items()},
            "retrieval": {"checkpoint": "finetune", **retrieval},
            "checkpoint_sha256": "cd" * 32, "config_sha256": "ef" * 32,
            "git_commit": "0123456789abcdef-dirty", "versions": {"torch": "2.11.0"},
            "seconds": 12.5,
        },
    )  # fmt: skip
    ids = np.array([f"clip_{index}" for index in range(num_clips)])
    np.savez(folder / "predictions.npz", clip_ids=ids, targets=targets, **scores)
    np.savez(folder / "embeddings.npz", clip_ids=ids, targets=targets, audio=audio, video=video)
    return path


def interval(value, width):
    return {"value": value, "low": value - width, "high": value + width}


def write_probe(root, run, *, dataset="digits", num_mel_bins=32, frame_size=32):
    rng = np.random.default_rng(1)
    audio, video = fake_embeddings(rng, np.eye(NUM_CLASSES)[np.arange(60) % NUM_CLASSES], 0.5)
    worse = np.array([0, 0.5, 0, 0.5])
    errors = bootstrap_means(rng.random((60, 4)) + worse, num_resamples=50, seed=0)
    trained = {
        m: {"metric": "accuracy", "linear": interval(v, 0.05), "knn": interval(v - 0.1, 0.05)}
        for m, v in (("audio", 0.5), ("video", 0.7), ("audio_video", 0.75))
    }
    untrained = {
        m: {"metric": "accuracy", "linear": interval(v, 0.05), "knn": interval(v - 0.1, 0.05)}
        for m, v in (("audio", 0.35), ("video", 0.66), ("audio_video", 0.7))
    }
    path = write_json(
        root / run / "probe" / dataset / "metrics.json",
        {
            "run": run, "dataset": dataset, "split": "test", "clip_ids_sha256": "ab" * 32,
            "reconstruction": {
                "audio": {"model": errors[0], "mean_patch": errors[1], "mean_position": errors[1]},
                "video": {"model": errors[2], "mean_patch": errors[3], "mean_position": errors[3]},
            },
            "probes": {"pretrained": trained, "untrained": untrained},
            "retrieval": {
                "checkpoint": "pretrain",
                **retrieval_metrics(audio, video, num_resamples=50, seed=0),
            },
            "retrieval_untrained": retrieval_metrics(
                audio, rng.standard_normal(video.shape), num_resamples=50, seed=0
            ),
            "seconds": 30.0,
        },
    )  # fmt: skip
    logmel = np.cumsum(rng.standard_normal((3, 98, num_mel_bins)), axis=1).astype(np.float32)
    row, column = np.mgrid[:frame_size, :frame_size] / frame_size
    frames = np.stack([np.stack([row, column, np.full_like(row, s)], -1) for s in (0.1, 0.5, 0.9)])
    audio_hidden = np.kron(rng.random((3, 14, num_mel_bins // 8)) < 0.75, np.ones((7, 8))) > 0
    video_masked = frames.copy()
    video_masked[:, : frame_size // 2] = np.nan
    np.savez(
        path.with_name("reconstructions.npz"),
        clip_ids=np.array(["clip_0", "clip_1", "clip_2"]),
        audio_input=np.pad(logmel, ((0, 0), (0, 2), (0, 0))), audio_masked=audio_hidden,
        audio_reconstructed=logmel * 0.9,
        video_input=(frames * 255).astype(np.uint8), video_masked=video_masked,
        video_reconstructed=frames * 0.9,
    )  # fmt: skip
    return path


def write_training(root, run, *, dataset="digits", num_steps=300):
    rows = []
    for step in range(10, num_steps + 1, 10):
        decay = np.exp(-3 * step / num_steps)
        rows.append({
            "step": step, "epoch": step / 10, "samples_seen": step * 96, "seconds": step * 0.5,
            "loss": 1 + 4 * decay, "contrast_loss": 0.5 + 2.5 * decay,
            "reconstruct_loss": 0.5 + decay, "audio_reconstruct_loss": 0.6 + decay,
            "video_reconstruct_loss": 0.4 + decay, "audio_spread": 0.08 - 0.05 * decay,
            "video_spread": 0.07 - 0.04 * decay, "lr": 1e-3, "contrast_accuracy": 0.6 - 0.5 * decay,
            "grad_norm": 1 + decay, "grad_norm_contrast": 1 + decay,
        })  # fmt: skip
    write_lines(root / run / "pretrain" / "metrics.jsonl", rows)
    scored = [
        {"step": row["step"], "epoch": row["epoch"], "samples_seen": row["samples_seen"],
         "val": {m: 1 - np.exp(-row["step"] / 90 * s) for m, s in SIGNALS.items()}}
        for row in rows[4::5]
    ]  # fmt: skip
    kept = ("step", "epoch", "samples_seen", "seconds", "loss", "grad_norm")
    plain = [{key: row[key] for key in kept} for row in rows]
    write_lines(root / run / "finetune" / dataset / "metrics.jsonl", plain + scored)
    (root / run / "config.yaml").write_text("model:\n  size: tiny\nfinetune:\n  init: pretrain\n")


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_index(root, split, *, dataset="digits", num_clips=60, reasons=None, names=CLASS_NAMES):
    reasons = reasons or {}
    return write_json(
        root / dataset / "shards" / split / "index.json",
        {
            "version": 1, "dataset": dataset, "split": split, "task": "multiclass",
            "class_names": names, "num_clips": num_clips,
            "num_clips_in_list": num_clips + sum(reasons.values()),
            "clip_ids_sha256": "12" * 32, "reasons": reasons, "flags": {"short": 3}, "shards": [],
        },
    )  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """A results folder with everything in it, and the arguments of ``build_report``."""
    root = tmp_path / "results"
    metrics = [write_evaluation(root, "avsiam_demo")]
    probes = [write_probe(root, "avsiam_demo")]
    write_training(root, "avsiam_demo")
    indexes = [
        write_index(root, "train", num_clips=300, reasons={"corrupt": 2, "no_audio": 5}),
        write_index(root, "test", reasons={"too_short": 2}),
    ]
    benchmark = root / "benchmarks" / "pack_shards" / "digits" / "train" / "00000.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\th:m:s\tmax_rss\n12.5\t0:00:12\t181.25\n")
    return {
        "metrics_files": metrics,
        "probe_files": probes,
        "index_files": indexes,
        "output": root / "report" / "index.html",
        "config": CONFIG,
    }


def build(arguments):
    build_report(**arguments)
    return arguments["output"].read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collect what a page shows, and check that its tags are closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.images, self.charts, self.texts = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes)
        if attributes.get("role") == "img":
            self.charts.append(attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data.strip())

    @property
    def text(self):
        return " ".join(part for part in self.texts if part)


def test_page_is_whole_small_and_needs_nothing_else(results):
    page = build(results)
    reader = Reader(page)
    assert reader.open == []
    assert EXTERNAL.search(page) is None
    assert "<script" not in page
    assert str(results["output"].parents[2]) not in page
    assert len(page) < 3_000_000
    assert "Missing or unusual" not in reader.text


def test_every_promised_part_is_on_the_page(results):
    reader = Reader(build(results))
    for expected in (
        "Accuracy, %", "mAP, %", "AUC", "d\u2032", "Top-5, %", "60 of 62", "ababababab",
        "R@10 / chance", "Chance", "Median rank", "Mean patch, MSE", "Pre-trained, %",
        "Feature spread", "Validation score", "Confusion, audio + video", "t-SNE",
        "corrupt 2", "no_audio 5", "short 3", "pack_shards", "12.5 s", "torch", "2.11.0",
        "0123456789", "dirty", "cdcdcdcdcd", "size: tiny", "five & <six>",
    ):  # fmt: skip
        assert expected in reader.text, expected
    assert len(reader.images) == 2 * 6
    assert len(reader.charts) >= 14
    for picture in reader.images:
        assert picture["alt"]
        assert picture["src"].startswith("data:image/")
    assert all(chart["aria-label"] for chart in reader.charts)


def test_same_inputs_give_the_same_bytes(results):
    assert build(results) == build(results)


def test_missing_files_are_named_and_the_rest_is_shown(results):
    root = results["output"].parents[1]
    lost = [
        "avsiam_demo/eval/digits/predictions.npz",
        "avsiam_demo/eval/digits/embeddings.npz",
        "avsiam_demo/probe/digits/reconstructions.npz",
        "avsiam_demo/pretrain/metrics.jsonl",
        "avsiam_demo/finetune/digits/metrics.jsonl",
        "avsiam_demo/config.yaml",
        "digits/shards/test/index.json",
    ]
    for name in lost:
        (root / name).unlink()
    text = Reader(build(results)).text
    for name in lost:
        assert f"{name} is not there" in text
    for shown in ("Accuracy, %", "R@10 / chance", "Mean patch, MSE", "no_audio 5", "torch"):
        assert shown in text


def test_missing_metrics_leave_data_and_training(results):
    for path in (*results["metrics_files"], *results["probe_files"]):
        path.unlink()
    text = Reader(build(results)).text
    assert "eval/digits/metrics.json is not there" in text
    assert "probe/digits/metrics.json is not there" in text
    for shown in ("No evaluation could be read", "Feature spread", "no_audio 5"):
        assert shown in text


def test_damaged_files_are_named(results):
    root = results["output"].parents[1] / "avsiam_demo"
    damaged = {
        "eval/digits/predictions.npz": b"PK\x03\x04 not a zip",
        "eval/digits/embeddings.npz": b"\x93NUMPY",
        "probe/digits/reconstructions.npz": b"",
        "pretrain/metrics.jsonl": b"{",
        "config.yaml": b"a: [",
    }
    for name, content in damaged.items():
        (root / name).write_bytes(content)
    text = Reader(build(results)).text
    for name in damaged:
        assert name in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_damaged_record_is_refused_by_name(tmp_path, content):
    path = tmp_path / "run" / "eval" / "digits" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(StageError, match=r"eval/digits/metrics\.json.*the rule again"):
        read_record(path, EvalMetrics, "the rule")


def test_wrong_key_is_named_with_the_rule_to_run(results):
    path = results["metrics_files"][0]
    record = json.loads(path.read_text())
    record["num_clips"] = "many"
    write_json(path, record)
    with pytest.raises(StageError, match=r"metrics\.json: num_clips: .* run evaluate again"):
        read_record(path, EvalMetrics, "evaluate")


def test_absent_figures_and_collapsed_retrieval_are_told(results):
    path = results["metrics_files"][0]
    record = json.loads(path.read_text())
    del record["audio_video"]
    record["retrieval"]["num_tied"]["audio_to_video"] = 60
    write_json(path, record)
    probe_path = results["probe_files"][0]
    probe = json.loads(probe_path.read_text())
    del probe["retrieval_untrained"]
    write_json(probe_path, probe)
    text = Reader(build(results)).text
    assert "no figures for audio + video" in text
    assert "60 of 60 queries are tied" in text
    assert "no retrieval figures of the untrained encoder" in text


def test_runs_on_different_clips_are_flagged_and_multilabel_has_map(results):
    root = results["output"].parents[1]
    other = write_evaluation(root, "from_scratch", seed=4)
    record = json.loads(other.read_text())
    record["clip_ids_sha256"] = "99" * 32
    write_json(other, record)
    tags = write_evaluation(root, "avsiam_demo", dataset="tags", task="multilabel")
    results["metrics_files"] += [other, tags]
    text = Reader(build(results)).text
    assert "not scored on the same clips" in text
    assert "mAP, tags" in text
    assert "tags: no index.json names its classes" in text


def test_run_from_scratch_is_not_asked_for_pretraining(results):
    root = results["output"].parents[1]
    results["metrics_files"].append(write_evaluation(root, "scratch"))
    write_training(root, "scratch")
    (root / "scratch" / "pretrain" / "metrics.jsonl").unlink()
    (root / "scratch" / "config.yaml").write_text("finetune:\n  init: scratch\n")
    assert "scratch/pretrain" not in Reader(build(results)).text


def test_nothing_to_report_is_refused(results):
    results |= {"metrics_files": [], "probe_files": [], "index_files": []}
    with pytest.raises(StageError, match="nothing to report"):
        build_report(**results)


def test_data_alone_makes_a_page(results):
    results |= {"metrics_files": [], "probe_files": []}
    text = Reader(build(results)).text
    assert "No evaluation could be read" in text
    assert "360 of 369 listed clips" in text


def test_plain_table(results, capsys):
    root = results["output"].parents[1]
    assert main([str(root)]) == 0
    printed = capsys.readouterr().out
    assert printed == format_table(results["metrics_files"])
    lines = printed.splitlines()
    assert lines[0].split("  ")[0] == "run"
    assert re.search(r"audio_video +\d+\.\d \[\d+\.\d, \d+\.\d\] .* 60 of 62", printed)
    assert re.search(r"video_to_audio .* 16\.7 +60", printed)


def test_the_single_frame_figure_has_a_column(results):
    path = results["metrics_files"][0]
    metrics = json.loads(path.read_text())
    assert "frame" not in Reader(build(results)).text.split("Clip list")[0].split("Input")[1]
    figure = {"accuracy": interval(0.4321, 0.01)}
    metrics["single_frame"] = {"num_frames": 1, "video": figure, "audio_video": figure}
    write_json(path, metrics)
    text = Reader(build(results)).text
    assert "Accuracy, %, 1 frame" in text
    assert "43.2" in text


def test_a_pretraining_scored_by_retrieval_alone(results, capsys):
    path = results["probe_files"][0]
    metrics = json.loads(path.read_text()) | {"reconstruction": {}, "probes": {}}
    metrics["retrieval"] |= {"trained_on": ["elsewhere"], "zero_shot": True}
    write_json(path, metrics)
    path.with_name("reconstructions.npz").unlink()
    results["metrics_files"][0].unlink()
    text = Reader(build(results | {"metrics_files": []})).text
    assert "after pretrain on elsewhere, zero-shot" in text
    for complaint in ("no reconstruction error", "no probe scores", "reconstructions.npz"):
        assert complaint not in text
    assert "No evaluation could be read" not in text
    assert main([str(results["output"].parents[1])]) == 0
    assert re.search(r"avsiam_demo +digits/test +pretrain +video_to_audio", capsys.readouterr().out)


def test_plain_table_without_results(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "snakemake all" in capsys.readouterr().err
