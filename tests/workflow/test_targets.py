"""Targets resolve in a fresh copy with an empty home; wrong input is refused before any job."""

import re
from importlib.util import find_spec

import pytest
import yaml

from pipeline_src.datasets.presence import MAX_LOOKED_FOR
from tests.workspace import Workspace, planned_jobs, write_yaml


@pytest.fixture(scope="module")
def once_edited(tmp_path_factory, shell_env):
    """A copy whose config/config.yaml somebody has edited."""
    workspace = Workspace.make(tmp_path_factory.mktemp("edited"), shell_env)
    workspace.set("finetune.lr", 0.0777)
    return workspace


DATA_JOBS = {"download_clips": 4, "transcode_clips": 4, "extract_logmel": 4, "pack_shard": 4}


def test_all_plans_every_stage_once_per_chunk(fresh):
    jobs = planned_jobs(fresh.snakemake("-n", "all"))
    assert jobs == DATA_JOBS | {
        "pack_index": 3,
        "pack_ledger": 1,
        "pretrain_model": 1,
        "finetune_model": 1,
        "evaluate_finetuned": 1,
        "evaluate_pretrained": 1,
        "resolve_config": 1,
        "report_results": 1,
        "all": 1,
    }


@pytest.mark.parametrize(
    ("target", "last_rule"),
    [
        ("download_avdigits", "download_clips"),
        ("shards_avdigits", "pack_index"),
        ("pretrain", "pretrain_model"),
        ("finetune_avdigits", "finetune_model"),
        ("eval_avdigits", "evaluate_finetuned"),
        ("report", "report_results"),
    ],
)
def test_a_stage_is_a_target_and_needs_no_flag(fresh, target, last_rule):
    jobs = planned_jobs(fresh.snakemake("-n", target))
    assert last_rule in jobs
    train_only, train_and_val = {"pretrain": 2}, {"finetune_avdigits": 3}
    assert jobs["download_clips"] == (train_only | train_and_val).get(target, 4)
    assert (target == "report") == ("report_results" in jobs)


def test_the_slurm_profile_resolves_from_the_root(fresh):
    output = fresh.snakemake("-n", "--profile", "slurm", "all")
    assert "pretrain_model" in planned_jobs(output)


def test_a_data_set_without_its_list_ends_with_what_to_do(fresh):
    output = fresh.snakemake("-n", "eval_vggsound", fails=True)
    assert "vggsound.csv" in output
    assert "Traceback" not in output


def test_a_wrong_key_fails_the_dry_run(fresh):
    overlay = fresh.root / "wrong.yaml"
    overlay.write_text("finetune: {learning_rate: 0.1}\n")
    output = fresh.snakemake("-n", "--configfile", str(overlay), "--", "all", fails=True)
    assert re.search(r"wrong\.yaml: finetune\.learning_rate = 0\.1: unknown key", output)
    assert "Traceback" not in output


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed here")
def test_a_logger_that_is_not_installed_fails_the_dry_run(fresh):
    output = fresh.snakemake("-n", "--config", "submit={loggers: [wandb]}", "--", "all", fails=True)
    assert "submit.loggers: wandb is not installed; pip install 'av-pipeline[wandb]'" in output
    assert "Traceback" not in output
    fresh.snakemake("-n", "--config", "submit={loggers: [wandb]}", "--", "shards_avdigits")


def resolved_lr(folder):
    return yaml.safe_load((folder / "results/avsiam_tiny/config.yaml").read_text())["finetune"][
        "lr"
    ]


@pytest.mark.parametrize("how", ["--snakefile", "--directory"])
def test_the_projects_configuration_is_read_from_everywhere(once_edited, tmp_path, how):
    (tmp_path / "overlay.yaml").write_text("finetune: {epochs: 3}\n")
    project = once_edited.root
    options = {
        "--snakefile": (tmp_path, ["--snakefile", str(project / "Snakefile")]),
        "--directory": (project, ["--directory", str(tmp_path)]),
    }
    folder, arguments = options[how]
    overlay = ("--configfile", str(tmp_path / "overlay.yaml"))
    target = "results/avsiam_tiny/config.yaml"
    Workspace(folder, once_edited.env).snakemake(*arguments, *overlay, "--", target)
    assert resolved_lr(tmp_path) == 0.0777
    assert not (project / "results").exists()


def test_what_would_be_lost_is_refused_before_anything_runs(fresh):
    (fresh.root / "twice.yaml").write_text("finetune: {lr: 1}\npretrain: {}\nfinetune: {}\n")
    overlay = ("--configfile", "twice.yaml")
    output = fresh.snakemake("-n", *overlay, "--", "all", fails=True)
    assert "twice.yaml: 'finetune' stands twice, in line 1 and in line 3" in output
    twice = ("--config", "pretrain={lr: 1}", "--config", "results=r")
    output = fresh.snakemake("-n", *twice, "--", "all", fails=True)
    assert "write all of it after one: --config 'pretrain={lr: 1}' results=r --" in output
    assert "Traceback" not in output


FALLING = {"curriculum": {"shape": "linear", "start": 0.82}, "adaptive_batch": "tokens"}
MANY_FRAMES = {key: {"num_frames": 64} for key in ("pretrain", "finetune", "evaluate")}
LONG_WARMUP = {"pretrain": {"warmup_epochs": 100}, "finetune": {"warmup_epochs": 200}}
FEW_STORED = {"media": {"num_frames": 6}}


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"pretrain": {"reconstruct_ratio": 0.97}}, "set pretrain.reconstruct_ratio below"),
        (
            {"pretrain": {**FALLING, "batch_size": 64, "max_batch_size": 60}},
            "has 64 clips per step, more than max_batch_size=60",
        ),
        (MANY_FRAMES, "pretrain.num_frames = 64, but a clip has media.num_frames = 10"),
        (FEW_STORED, "evaluate.num_frames = 10, but a clip has media.num_frames = 6; store"),
    ],
    ids=["no token", "batch", "frames", "evaluated frames"],
)
def test_an_impossible_pretraining_fails_the_dry_run(fresh, overlay, message):
    path = fresh.root / "impossible.yaml"
    write_yaml(path, overlay)
    output = fresh.snakemake("-n", "--configfile", str(path), "--", "all", fails=True)
    assert message in output
    assert "run avsiam_tiny" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("target", ["shards_avdigits", "results/avsiam_tiny/pretrain/done.json"])
def test_data_and_trainings_that_need_fewer_frames_than_an_evaluation_are_made(fresh, target):
    """No key of a stage that is not asked for stands in the way of one that is."""
    path = fresh.root / "few.yaml"
    write_yaml(path, FEW_STORED)
    assert "transcode_clips" in fresh.snakemake("-n", "--configfile", str(path), "--", target)


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("results/avsiam_tiny/pretrain/done.json", "pretrain.warmup_epochs = 100"),
        ("results/avsiam_tiny/finetune/avdigits/done.json", "warmup_epochs = "),
    ],
)
def test_a_training_that_is_itself_the_target_is_asked_the_same(fresh, target, key):
    """As ``dvc repro`` asks for it."""
    path = fresh.root / "warm.yaml"
    write_yaml(path, LONG_WARMUP)
    output = fresh.snakemake("-n", "--configfile", str(path), "--", target, fails=True)
    assert key in output
    assert "Traceback" not in output


def test_an_unknown_data_set_is_named(fresh):
    output = fresh.snakemake("-n", "--config", 'datasets=["nowhere"]', "--", "all", fails=True)
    assert "'nowhere' is neither a known data set (" in output


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,a.mp4,,,zero,train\na,b.mp4,,,zero,test", "already listed"),
        ("a,a.mp4,,,eleven,train", "eleven"),
        ("a,a.mp4,3,1,zero,train", "start"),
        ("a,a.mp4,,,zero,trian", "trian"),
    ],
)
def test_a_bad_list_is_refused_before_any_job(fresh, tmp_path, row, message):
    classes = "index,id,display_name\n0,zero,Zero\n1,one,One\n"
    header = "clip_id,source,start_seconds,end_seconds,labels,split\n"
    (tmp_path / "classes.csv").write_text(classes)
    (tmp_path / "list.csv").write_text(header + row + "\n")
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntask: multiclass\nclip_list: list.csv\nclass_names: classes.csv\n")
    output = fresh.snakemake("-n", "--config", f'datasets=["{path}"]', "--", "all", fails=True)
    assert message in output
    assert "list.csv" in output
    assert "Traceback" not in output


def write_files(folder, num_clips, num_there):
    """A data set of one split, some of whose files are there."""
    header = "clip_id,source,start_seconds,end_seconds,labels,split\n"
    rows = [f"c{n},c{n}.mp4,,,{'yx'[n % 2]},train\n" for n in range(num_clips)]
    (folder / "list.csv").write_text(header + "".join(rows))
    for n in range(num_there):
        (folder / f"c{n}.mp4").touch()
    return folder / "mine.yaml"


MINE = "name: mine\ntask: multiclass\nclip_list: list.csv\n"


@pytest.mark.parametrize(
    ("yaml_text", "files", "message"),
    [
        (
            MINE + "root: videos\n",
            (4, 0),
            "/videos is no folder, and the clips of train are looked",
        ),
        (MINE, (MAX_LOOKED_FOR + 5, 400), "600 of the first 1000 clips of train are missing"),
        (MINE, (18, 18), "pretrain.batch_size = 100, but mine lists 18 clips to train on"),
    ],
    ids=["root", "files", "batch"],
)
def test_what_the_files_do_not_allow_fails_the_dry_run(fresh, tmp_path, yaml_text, files, message):
    path = write_files(tmp_path, *files)
    path.write_text(yaml_text)
    settings = [f'datasets=["{path}"]', f"results={tmp_path / 'results'}"]
    settings.append("pretrain={batch_size: 100}")
    output = fresh.snakemake("-n", "--config", *settings, "--", "pretrain", fails=True)
    assert message in output
    assert "Traceback" not in output


def test_a_yaml_and_a_list_are_enough(fresh, tmp_path):
    rows = "".join(
        f"{split}{n},{split}{n}.mp4,,,{'yx'[n % 2]},{split}\n"
        for split in ("train", "test")
        for n in range(80)
    )
    header = "clip_id,source,start_seconds,end_seconds,labels,split\n"
    (tmp_path / "list.csv").write_text(header + rows)
    for split in ("train", "test"):
        for n in range(80):
            (tmp_path / f"{split}{n}.mp4").touch()
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntask: multiclass\nclip_list: list.csv\n")
    settings = [f'datasets=["{path}"]', f"results={tmp_path / 'results'}"]
    output = fresh.snakemake("-n", "--config", *settings, "--", "all")
    assert "pack_index mine/train" in output
    assert "finetune_model" in output
    classes = (tmp_path / "results/mine/classes.csv").read_text()
    assert classes == "index,id,display_name\n0,x,x\n1,y,y\n"


def test_every_script_has_a_rule_of_its_name_and_stays_thin(root):
    rules = "".join(path.read_text() for path in (root / "workflow/rules").glob("*.smk"))
    for script in (root / "workflow/scripts").glob("*.py"):
        assert f"rule {script.stem}:" in rules
        assert f'"../scripts/{script.name}"' in rules
        assert len(script.read_text().splitlines()) <= 35


def test_what_all_rules_share_stays_short(root):
    assert len((root / "workflow/rules/common.smk").read_text().splitlines()) < 60


def test_committed_symlinks_point_inside(root):
    assert (root / "slurm" / "profile.yaml").is_file()
    assert (root / "profiles" / "default" / "profile.yaml").is_file()
