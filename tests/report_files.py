"""Files like those that evaluations, trainings and indexes write, for the report to read."""

import json
from functools import cache

import numpy as np

from pipeline_src.evaluate.intervals import bootstrap_means, classification_intervals
from pipeline_src.evaluate.retrieval import retrieval_metrics

NUM_CLASSES = 6
CLASS_NAMES = ["zero", "one", "two", "three", "four", "five & <six>"]
# What a list may call its classes; each is read by something on the way as more than text.
NAMES = (
    *("$x$", "a$b", "cost $5 or $6", "five $\\foo$ bills", "$\\frac{", "\\$", "_noise_", "__"),
    *(
        "1.23456",
        "#010203 #040506",
        ' id="q"',
        "font: 9px x;",
        "<metadata>x</metadata>",
        "--> <!--",
    ),
    *(
        "<script>alert(1)</script>",
        "</text></svg>",
        "&lt;b&gt;",
        'width="72pt"',
        "xlink:href",
        "%s {}",
    ),
)
SIGNALS = {"audio": 2.0, "video": 3.5, "audio_video": 5.0}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, allow_nan=False))
    return path


def minimal_scores(**changes):
    """What the schema of metrics.json asks for and no more, and what is given."""
    values = {"run": "a", "dataset": "d", "split": "test", "task": "multiclass"}
    counts = {"num_clips": 2, "num_clips_in_list": 2, "clip_ids_sha256": "2"}
    return {**values, **counts, **changes}


def fake_embeddings(rng, targets, strength):
    centres = rng.standard_normal((targets.shape[1], 16))
    audio = targets @ centres + 0.7 * rng.standard_normal((len(targets), 16))
    return audio, strength * audio + rng.standard_normal(audio.shape)


@cache
def evaluated(num_clips, task, seed):
    """Targets, scores, embeddings and what metrics.json says of them; of every run the same."""
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
    figures = {m: classification_intervals(s, targets, **options) for m, s in scores.items()}
    figures["retrieval"] = retrieval_metrics(audio, video, num_resamples=100, seed=0)
    return targets, scores, {"audio": audio, "video": video}, figures


def write_evaluation(root, run, *, dataset="digits", num_clips=60, task="multiclass", seed=0):
    targets, scores, embeddings, figures = evaluated(num_clips, task, seed)
    folder = root / run / "eval" / dataset
    path = write_json(
        folder / "metrics.json",
        {
            "run": run, "dataset": dataset, "split": "test", "task": task,
            "num_clips": num_clips, "num_clips_in_list": num_clips + 2,
            "clip_ids_sha256": "ab" * 32, "num_frames": 4,
            **figures,
            "retrieval": {"checkpoint": "finetune", **figures["retrieval"]},
            "checkpoint_sha256": "cd" * 32, "config_sha256": "ef" * 32,
            "git_commit": "0123456789abcdef-dirty", "versions": {"torch": "2.11.0"},
            "seconds": 12.5,
        },
    )  # fmt: skip
    ids = np.array([f"clip_{index}" for index in range(num_clips)])
    np.savez(folder / "predictions.npz", clip_ids=ids, targets=targets, **scores)
    np.savez(folder / "embeddings.npz", clip_ids=ids, targets=targets, **embeddings)
    return path


def interval(value, width):
    return {"value": value, "low": value - width, "high": value + width}


@cache
def probed():
    """Errors, retrieval of the trained and of the untrained encoder."""
    rng = np.random.default_rng(1)
    audio, video = fake_embeddings(rng, np.eye(NUM_CLASSES)[np.arange(60) % NUM_CLASSES], 0.5)
    worse = np.array([0, 0.5, 0, 0.5])
    errors = bootstrap_means(rng.random((60, 4)) + worse, num_resamples=50, seed=0)
    options = {"num_resamples": 50, "seed": 0}
    trained = retrieval_metrics(audio, video, **options)
    return errors, trained, retrieval_metrics(audio, rng.standard_normal(video.shape), **options)


def write_probe(root, run, *, dataset="digits", num_mel_bins=32, frame_size=32):
    errors, of_trained, of_untrained = probed()
    rng = np.random.default_rng(2)
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
            "retrieval": {"checkpoint": "pretrain", **of_trained},
            "retrieval_untrained": of_untrained,
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


def write_training(root, run, *, dataset="digits", num_steps=300, seed=0, lift=0.0):
    """Write logs and config.yaml of a run; ``lift`` is added to its validation scores."""
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
         "val": {m: 1 - np.exp(-row["step"] / 90 * s) + lift for m, s in SIGNALS.items()}}
        for row in rows[4::5]
    ]  # fmt: skip
    kept = ("step", "epoch", "samples_seen", "seconds", "loss", "grad_norm")
    plain = [{key: row[key] for key in kept} for row in rows]
    write_lines(root / run / "finetune" / dataset / "metrics.jsonl", plain + scored)
    config = f"model:\n  size: tiny\npretrain:\n  seed: {seed}\n"
    config += f"finetune:\n  init: pretrain\n  seed: {seed}\n"
    (root / run / "config.yaml").write_text(config)


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
