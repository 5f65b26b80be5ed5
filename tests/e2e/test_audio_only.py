"""Sound alone, in two folds: an audio-visual pre-training fine-tuned and scored on it."""

import json
import subprocess

import numpy as np
import pytest

from pipeline_src.transcode.ffmpeg import find_ffmpeg
from tests.workspace import planned_jobs

pytestmark = pytest.mark.e2e

CLASSES = {"low": 300, "middle": 900, "high": 2700}
PER_CLASS, FOLDS = 6, 2
NUM_CLIPS = PER_CLASS * FOLDS * len(CLASSES)


def write_data_set(folder):
    """A copy of ESC-50's layout: 24-bit stereo WAV files without any picture, and its list."""
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, FOLDS + 1):
        for target, (category, pitch) in enumerate(CLASSES.items()):
            for take in range(PER_CLASS):
                name = f"{fold}-{take}-A-{target}.wav"
                make_sound(folder / "audio" / name, pitch + 7 * take)
                rows.append(f"{name},{fold},{target},{category},False,{take},A")
    (folder / "meta").mkdir()
    (folder / "meta/esc50.csv").write_text("\n".join(rows) + "\n")
    classes = [f"{index},{name},{name}" for index, name in enumerate(CLASSES)]
    (folder / "classes.csv").write_text("index,id,display_name\n" + "\n".join(classes) + "\n")
    path = folder / "sounds.yaml"
    path.write_text(
        f"name: sounds\ntask: multiclass\nformat: esc50\nmodalities: [audio]\nfolds: {FOLDS}\n"
        "clip_list: meta/esc50.csv\nclass_names: classes.csv\n"
    )
    return path


def make_sound(path, pitch):
    path.parent.mkdir(exist_ok=True)
    sound = f"sine=frequency={pitch}:sample_rate=44100:duration=1"
    command = [find_ffmpeg(), "-loglevel", "error", "-f", "lavfi", "-i", sound, "-ac", "2"]
    subprocess.run([*command, f"file:{path}"], check=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    dataset = write_data_set(tmp_path_factory.mktemp("sounds"))
    values = (
        f'datasets=["config/test/digits.yaml", "{dataset}"]',
        'pretrain={datasets: ["digits"]}',
        'finetune={datasets: ["sounds"], epochs: 10, validate_every_epochs: 5}',
    )
    return ("--workflow-profile", "test", "--config", *values, "--")


@pytest.fixture(scope="module")
def built(built, tmp_path_factory):
    """A copy of its own: others count on the tiny run alone."""
    return built.copied_to(tmp_path_factory.mktemp("sounds_built"))


@pytest.fixture(scope="module")
def results(built, settings):
    built.snakemake(*settings, "all")
    return built.root / "results/test"


def read(path):
    return json.loads(path.read_text())


@pytest.mark.exhaustive
def test_every_sound_is_packed_once_and_has_no_frames(results):
    for fold in ("fold1", "fold2"):
        index = read(results / f"sounds/shards/{fold}/index.json")
        assert index["num_clips"] == index["num_clips_in_list"] == NUM_CLIPS // FOLDS
        assert (index["modalities"], index["num_frames"], index["reasons"]) == (["audio"], 0, {})
        found = {flag for flag, count in index["flags"].items() if count}
        assert found <= {"duplicate"}  # the clips share a few tones
        assert index["logmel_stats_split"] == fold
    assert not (results / "sounds/shards/train").exists()


@pytest.mark.exhaustive
def test_each_fold_is_scored_by_a_model_of_the_others(results):
    for held_out, others in (("fold1", "fold2"), ("fold2", "fold1")):
        metrics = read(results / f"avsiam_tiny/eval/sounds_{held_out}/metrics.json")
        assert (metrics["split"], metrics["heads"]) == (held_out, ["audio"])
        assert metrics["num_clips"] == NUM_CLIPS // FOLDS
        assert not {"video", "audio_video", "retrieval"} & metrics.keys()
        spec = read(results / f"avsiam_tiny/finetune/sounds_{held_out}/spec.json")
        assert [path.split("/")[-2] for path in spec["train_indexes"]] == [others]
        assert spec["initial_checkpoint"].endswith("avsiam_tiny/pretrain/done.json")


@pytest.mark.exhaustive
def test_the_mean_over_folds_is_that_of_the_folds(results):
    metrics = read(results / "avsiam_tiny/folds/sounds/metrics.json")
    folds = [
        read(results / f"avsiam_tiny/eval/sounds_fold{k}/metrics.json")["audio"]["accuracy"][
            "value"
        ]
        for k in (1, 2)
    ]
    accuracy = metrics["audio"]["accuracy"]
    assert accuracy["folds"] == folds
    assert accuracy["value"] == pytest.approx(np.mean(folds))
    assert accuracy["std"] == pytest.approx(np.std(folds, ddof=1))
    assert accuracy["value"] >= 0.8  # three pitches; chance is a third
    assert (metrics["num_clips"], metrics["folds"]) == (NUM_CLIPS, ["fold1", "fold2"])


@pytest.mark.exhaustive
def test_the_report_shows_folds_and_misses_nothing_that_cannot_be(built, results):
    page = (results / "report/index.html").read_text()
    assert "Cross-validation" in page
    assert "sounds, 2 folds" in page
    assert "sounds: " not in page  # the form of messages about absent content
    table = built.run("python", "-m", "pipeline_src", "table", "results/test")
    assert "sounds, mean of 2 folds" in table


@pytest.mark.exhaustive
def test_all_is_done_and_one_fold_can_be_asked_for(built, results, settings):
    assert planned_jobs(built.snakemake("-n", *settings, "all")) == {}
    fold = "results/test/avsiam_tiny/eval/sounds_fold2/metrics.json"
    assert planned_jobs(built.snakemake("-n", *settings, fold)) == {}
    assert planned_jobs(built.snakemake("-n", *settings, "eval_sounds")) == {}


@pytest.mark.parametrize(
    ("change", "target", "words"),
    [
        (
            "pretrain={datasets: []}",
            "all",
            ["data set sounds has sound alone", "pretrain.datasets"],
        ),
        ("finetune={modality_probs: [0, 0, 1]}", "all", ["sounds", "modality_probs", "[1, 0, 0]"]),
        ("evaluate={split: val}", "eval_sounds", ["sounds", "evaluate.split is val"]),
        (
            "finetune={lr: 1}",
            "results/test/avsiam_tiny/eval/sounds/metrics.json",
            ["no clip has split 'test'", "sounds_fold1"],
        ),
        (
            "finetune={lr: 1}",
            "results/test/avsiam_tiny/eval/sounds_fold3/metrics.json",
            ["no clip has split 'fold3'"],
        ),
    ],
)
def test_what_sound_alone_or_folds_cannot_do_is_refused_by_name(
    built, settings, change, target, words
):
    key = change.partition("=")[0] if change.startswith("pretrain") else "--"  # said once
    arguments = [value for value in settings if value != "--" and not value.startswith(f"{key}=")]
    output = built.snakemake("-n", *arguments, change, "--", target, fails=True)
    assert "Traceback" not in output
    for word in words:
        assert word in output
