"""Every experiment file: accepted, planned in a dry run, and one pre-training per run name."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from pipeline_src.config import load_config, resolve_run
from pipeline_src.config.load import merge
from pipeline_src.datasets.classes import load_classes
from pipeline_src.datasets.clip_lists import read_clips
from pipeline_src.datasets.dataset import load_dataset
from tests.workspace import ROOT, Workspace, experiment_files, planned_jobs

EXPERIMENTS = sorted((ROOT / "config/experiments").glob("*.yaml"))
RECIPES = [path for path in EXPERIMENTS if path.stem.endswith(("_as2m", "_as20k", "_vggsound"))]
NUM_CLASSES = {"audioset": 527, "vggsound": 309}
NUM_CLIPS = 600  # of each list; the largest batch is 512
SEGMENTS = ("unbalanced_train", "balanced_train", "eval")


def write_classes(path: Path, kind: str) -> None:
    """Classes under the official header, with commas in their names."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["index", "mid", "display_name"])
        for index in range(NUM_CLASSES[kind]):
            writer.writerow([index, f"/m/{kind}{index}", f"Sound {index}, of a kind"])


@pytest.fixture(scope="module")
def listed(tmp_path_factory, shell_env) -> Workspace:
    """A copy with short lists in the official forms of AudioSet and VGGSound."""
    workspace = Workspace.make(tmp_path_factory.mktemp("experiments"), shell_env)
    folder = workspace.root / "config/datasets"
    write_classes(folder / "class_labels_indices.csv", "audioset")
    for number, name in enumerate(SEGMENTS):
        rows = ["# Segments csv created Sun Mar  5 10:54:31 2017", "# num_ytids=3", "# YTID, ..."]
        for clip in range(NUM_CLIPS):
            labels = f"/m/audioset{clip % 263},/m/audioset{526 - clip % 263}"
            rows.append(f'--{number}{clip:03d}xxxxx, 30.000, 40.000, "{labels}"')
        (folder / f"{name}_segments.csv").write_text("\n".join(rows) + "\n")
    write_classes(folder / "vggsound_classes.csv", "vggsound")
    with (folder / "vggsound.csv").open("w", newline="") as stream:
        for clip in range(NUM_CLIPS + 3):
            split = "train" if clip < NUM_CLIPS else "test"
            name = f"Sound {clip % 309}, of a kind"
            csv.writer(stream).writerow([f"--v{clip}", clip, name, split])
    write_sounds(workspace.root / "data/raw")
    return workspace


def write_sounds(folder: Path) -> None:
    """ESC-50 and Speech Commands where their YAML files look for them; the sounds are empty."""
    meta = folder / "ESC-50-master/meta/esc50.csv"
    meta.parent.mkdir(parents=True)
    names = [f"{fold}-{clip}-A-0.wav" for fold in range(1, 6) for clip in range(100)]
    rows = [f"{name},{name[0]},0,dog,True,1,A" for name in names]
    (meta.parents[1] / "audio").mkdir()
    for name in names:
        (meta.parents[1] / "audio" / name).touch()
    meta.write_text("\n".join(["filename,fold,target,category,esc10,src_file,take", *rows]) + "\n")
    words = folder / "speech_commands_v0.02"
    learnt = [f"yes/{clip}.wav" for clip in range(NUM_CLIPS)]
    for name in (*learnt, "yes/b.wav", "no/c.wav", "_background_noise_/hum.wav"):
        (words / name).parent.mkdir(parents=True, exist_ok=True)
        (words / name).touch()
    (words / "validation_list.txt").write_text("yes/b.wav\n")
    (words / "testing_list.txt").write_text("no/c.wav\n")


def runs_of(path: Path):
    """The resolved runs of an experiment file."""
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for name in experiment_files(path):
        values = merge(values, yaml.safe_load((ROOT / name).read_text()))
    config = load_config(values)
    return {name: resolve_run(config, name) for name in config.run_names}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_is_accepted_and_planned(listed, path):
    assert re.search(r"^#   (snakemake|make) ", path.read_text(), re.MULTILINE)
    output = listed.snakemake("-n", "--configfile", *experiment_files(path), "--", "all")
    jobs = planned_jobs(output)
    runs = runs_of(path)
    tuned = [run for run in runs.values() if not run.finetune.skip]
    num_folds = 5 * sum("esc50" in run.finetune.datasets for run in tuned)
    num_models = len(tuned) + num_folds - num_folds // 5
    for rule in ("finetune_model", "evaluate_finetuned"):
        assert jobs.get(rule, 0) == num_models
    assert jobs.get("evaluate_folds", 0) == num_folds // 5
    assert jobs["resolve_config"] == len(runs)


# What the facts about the development code do not say, or say otherwise.
OURS_IN_SYNC = r" +(init: timm|amp|num_workers|batch_size: 32|# classifier tokens)"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_whose_its_values_are_and_trains_as_published(path):
    text = path.read_text()
    assert (
        f"#   snakemake --profile slurm --configfile config/experiments/{path.name} -- all" in text
    )
    for grade in ("(published)", "(released code)", "(unverified)", "(ours)"):
        assert grade in text
    if path.stem.startswith("cav_mae_sync"):
        ours = [line for line in text.splitlines() if re.match(OURS_IN_SYNC, line)]
        assert len(ours) == 8
        assert [line for line in ours if "(ours)" not in line] == []
    check = _check_sync if path.stem.startswith("cav_mae_sync") else _check_stepped
    for run in runs_of(path).values():
        check(run)


def _check_sync(run):
    for stage in (run.pretrain, run.finetune):
        assert (stage.optimizer, stage.schedule) == ("adam", "cosine")
        assert (stage.beta1, stage.beta2, stage.weight_decay) == (0.95, 0.999, 5e-7)
        tenths = (stage.epochs / 10, stage.lr / 10)
        assert (stage.warmup_epochs, stage.min_lr) == pytest.approx(tenths)
        assert stage.amp is True
    assert run.evaluate.num_frames == 16


def _check_stepped(run):
    for stage in (run.pretrain, run.finetune):
        assert (stage.optimizer, stage.schedule, stage.warmup_epochs) == ("adam", "step", 0)
        assert (stage.beta1, stage.beta2, stage.weight_decay) == (0.95, 0.999, 5e-7)
        assert stage.max_grad_norm == 0
        assert stage.amp is True
    assert (run.finetune.mixup, run.finetune.mixup_alpha) == (0.5, 10)
    assert run.finetune.augment.mask_fill == "zero"
    assert run.evaluate.num_frames == 10


def test_a_pretraining_that_several_files_name_is_trained_once():
    seen: dict[str, tuple] = {}
    shared = set()
    for path in (*RECIPES, ROOT / "config/experiments/downstream_audio.yaml"):
        for name, run in runs_of(path).items():
            if run.finetune.checkpoint_run:
                continue
            settings = (run.model, run.pretrain)
            if name in seen:
                shared.add(name)
            assert seen.setdefault(name, settings) == settings, (path.name, name)
    assert {"avsiam_base", "avsiam_huge", "cav_mae_base", "cav_mae_scale_plus_plus"} <= shared


def test_zero_shot_retrieval_without_fine_tuning_is_planned(listed):
    overlay = {
        "datasets": ["vggsound"],
        "pretrain": {"datasets": ["audioset_2m"]},
        "finetune": {"skip": True},
    }
    (listed.root / "zero_shot.yaml").write_text(yaml.safe_dump(overlay))
    jobs = planned_jobs(listed.snakemake("-n", "--configfile", "zero_shot.yaml", "--", "all"))
    assert jobs["pretrain_model"] == jobs["evaluate_pretrained"] == 1
    assert not {"finetune_model", "evaluate_finetuned"} & jobs.keys()


def test_both_training_lists_of_audioset_are_read(listed):
    dataset = load_dataset(listed.root / "config/datasets/audioset_2m.yaml")
    classes = load_classes(dataset)
    assert len(classes.names) == 527
    assert classes.names[526] == "Sound 526, of a kind"
    clips = list(read_clips(dataset, max_seconds=600))
    assert [clip.split for clip in clips] == ["train"] * 2 * NUM_CLIPS + ["test"] * NUM_CLIPS
    ids = [clip.clip_id for clip in clips[: NUM_CLIPS + 1 : NUM_CLIPS]]
    assert ids == ["--0000xxxxx", "--1000xxxxx"]
    assert clips[0].labels == (0, 526)
