"""Starts of another shape: refused when a run is planned, or fitted by an explicit key."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from pipeline_src.catalog import Catalog
from pipeline_src.config import AudioConfig, FinetuneConfig, PretrainConfig, default_config
from pipeline_src.config.load import load_config
from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.methods import NetworkConfig
from pipeline_src.methods.common.input_lengths import fit_to_inputs
from pipeline_src.methods.factory import create_model
from pipeline_src.runs.build import build_model, restore_model
from pipeline_src.runs.done import read_done
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.shards.shard_set import open_shards
from pipeline_src.train.resume import start_from
from pipeline_src.train.run import run_training
from pipeline_src.train.stop import StopFlag
from tests import media
from tests.networks import SMALL
from tests.unit.train.test_run import make_model

pytestmark = pytest.mark.slow

AUDIO = AudioConfig(num_mel_bins=32)


def run_catalog(root, **runs):
    merged = default_config().model_dump(mode="json")
    merged["runs"] = {"first": {}, **runs}
    return Catalog(load_config(merged), root / "config" / "datasets")


def starting(stage="finetune", **model):
    return {"model": model, stage: {"checkpoint_run": "first"}}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            starting(target_length=48),
            r"run second starts from run first, .*target_length = 48, there 96.*fit_positions",
        ),
        (starting(img_size=64), "img_size = 64, there 32"),
        (starting(overrides={"embed_dim": 64}), r"another shape: embed_dim = 64, there \d+;"),
        (starting(overrides={"depth": 2}), "depth = 2, there 4"),
        (starting(overrides={"num_heads": 2}), "num_heads = 2, there 4"),
        (starting(overrides={"double_input": True}), "double_input = True, there False"),
        (starting(method="cav_mae"), "is a network of cav_mae and starts from run first, one of"),
        (
            starting(target_length=128, fit_positions="trim"),
            "trim cannot lengthen what run first knows: target_length = 128, there 96",
        ),
    ],
)
def test_a_start_of_another_shape_is_refused_when_planned(root, run, message):
    with pytest.raises(ConfigError, match=message):
        run_catalog(root, second=run).pretrain_done("second")


def test_frames_are_compared_with_the_run_that_is_started_from(root):
    """The run's own pre-training, which it has none of, was asked, and its answer trained."""
    first = {"pretrain": {"num_frames": 8}, "finetune": {"num_frames": 8}}
    start = {"checkpoint_run": "first"}
    own = run_catalog(root, first=first, second={"finetune": {**start, "num_frames": 8}})
    assert own.pretrain_done("second")
    other = run_catalog(root, first=first, second={"finetune": start})
    said = r"run second: finetune.num_frames = 5, but run first, .* sees 8 frames .*set it to 8"
    with pytest.raises(ConfigError, match=said):
        other.pretrain_done("second")


def test_a_teacher_that_sees_other_tokens_is_refused_when_planned(root):
    """It was found when its own pre-training had ended."""
    mavil = {"method": "mavil", "overrides": {"embed_dim": 64}}
    stage = {"model": mavil | {"overrides": {"predicts": "features"}}}
    second = stage | {"pretrain": {"teacher_run": "first"}}
    said = r"teacher_run is run first, .* embed_dim = \d+, there 64"
    with pytest.raises(ConfigError, match=said):
        run_catalog(root, first={"model": mavil}, second=second).teacher_done("second")
    second["model"] = mavil | {"overrides": {"embed_dim": 64, "predicts": "features"}}
    assert run_catalog(root, first={"model": mavil}, second=second).teacher_done("second")


def test_a_continued_pretraining_keeps_its_decoder(root):
    run = starting("pretrain", overrides={"decoder_depth": 1})
    with pytest.raises(ConfigError, match="decoder_depth = 1, there"):
        run_catalog(root, second=run).start_done("second")
    assert run_catalog(root, second=starting(overrides={"decoder_depth": 1})).pretrain_done(
        "second"
    )


@pytest.mark.parametrize(
    "model", [{}, {"target_length": 48, "fit_positions": "trim"}, {"fit_positions": "interpolate"}]
)
def test_a_start_that_fits_is_taken(root, model):
    assert run_catalog(root, second=starting(**model)).pretrain_done("second")


@pytest.fixture(scope="module")
def index_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starts")
    for name in "ab":
        media.make_clip(folder / f"{name}.mp4")
    clips = [{"clip_id": name, "source": f"{name}.mp4", "labels": "0"} for name in "ab"]
    return media.make_shards(folder, clips, AUDIO)


def train(index_path, run_dir, stage):
    few = {"epochs": 1, "batch_size": 2, "warmup_epochs": 0, "amp": False, "num_workers": 0}
    recipes = {
        "pretrain": PretrainConfig(**few, contrast_ratios=(0.0, 0.5)),
        "finetune": FinetuneConfig(**few, init="scratch"),
    }
    spec = TrainSpec(
        stage=stage,
        run_dir=run_dir,
        model=make_model(),
        recipe=recipes[stage],
        train_indexes=(index_path,),
    )
    return run_training(spec, StopFlag())


@pytest.fixture(scope="module")
def pretrained(index_path, tmp_path_factory):
    """done.json of a pre-training of one step."""
    return train(index_path, tmp_path_factory.mktemp("pretrained"), "pretrain")


@pytest.fixture(scope="module")
def finetuned(index_path, tmp_path_factory):
    """done.json of a fine-tuning of one step."""
    return train(index_path, tmp_path_factory.mktemp("finetuned"), "finetune")


def test_a_converted_folder_of_another_length_is_refused_when_planned(root, pretrained):
    model = make_model().model_dump(mode="json")
    audio = AUDIO.model_dump(mode="json")

    def planned(num_frames=1, **changes):
        merged = default_config().model_dump(mode="json") | {"audio": audio}
        run = {"model": {**model, **changes}, "finetune": {"num_frames": num_frames}}
        merged["runs"] = {"second": {**run, "pretrain": {"checkpoint": str(pretrained.parent)}}}
        return Catalog(load_config(merged), root / "config/datasets").pretrain_done("second")

    assert planned() == [str(pretrained)]
    assert planned(target_length=48, fit_positions="interpolate") == [str(pretrained)]
    with pytest.raises(ConfigError, match=f"starts from {pretrained.parent}, .*= 48, there 96"):
        planned(target_length=48)
    with pytest.raises(ConfigError, match=r"overrides|patch_size = 8, there 16"):
        planned(overrides={**model["overrides"], "patch_size": 8})
    with pytest.raises(ConfigError, match=r"finetune.num_frames = 5, but .* sees 1 frames"):
        planned(num_frames=5)


def test_a_damaged_folder_is_named_when_planned(root, pretrained, tmp_path):
    shutil.copytree(pretrained.parent, tmp_path / "copy")
    (tmp_path / "copy/checkpoint/state.json").write_text("{}")
    run = {"pretrain": {"checkpoint": str(tmp_path / "copy")}}
    with pytest.raises(ConfigError, match=r"copy/done\.json: no readable checkpoint beside it"):
        run_catalog(root, second=run).pretrain_done("second")


def fresh_model(num_classes=0, **changes):
    model = make_model().model_copy(update=changes)
    return build_model(model, num_classes=num_classes, num_mel_bins=32, num_frames=1, seed=1)


@pytest.mark.parametrize("how", ["interpolate", "trim"])
def test_half_the_sound_starts_with_fitted_positions(index_path, pretrained, how):
    model = fresh_model(target_length=48)
    start_from(pretrained, model, open_shards([index_path]), how)
    start = load_file(pretrained.parent / "checkpoint/model.safetensors")
    fitted = model.state_dict()
    key = "vit_base.pos_embed_a"
    grid = start[key].view(2, 6, -1)  # rows of frequency, columns of time
    if how == "trim":
        assert torch.equal(fitted[key].view(2, 3, -1), grid[:, :3])
    else:
        rough = torch.nn.functional.interpolate(
            grid.permute(2, 0, 1)[None], (2, 3), mode="bicubic", antialias=True
        )[0].permute(1, 2, 0)
        torch.testing.assert_close(fitted[key].view(2, 3, -1), rough)
    assert all(torch.equal(fitted[k], start[k]) for k in start if "pos_embed_a" not in k)


def test_positions_that_do_not_fit_are_refused_by_name(index_path, pretrained):
    with pytest.raises(CheckpointError, match=r"pos_embed_a knows \(2, 6\).*fit_positions"):
        start_from(pretrained, fresh_model(target_length=48), open_shards([index_path]))
    with pytest.raises(CheckpointError, match="trim cannot lengthen"):
        start_from(pretrained, fresh_model(target_length=128), open_shards([index_path]), "trim")


def test_computed_positions_become_those_of_the_new_length():
    sizes = {**SMALL, "num_frames": 2}
    long, short = (create_model("mavil_tiny", **{**sizes, "target_length": n}) for n in (48, 24))
    fitted = fit_to_inputs(long.state_dict(), short, long.config, "interpolate")
    short.load_state_dict(fitted)
    again = create_model("mavil_tiny", **sizes)
    assert torch.equal(short.audio.pos_embed, again.audio.pos_embed)
    assert isinstance(long.config, NetworkConfig)


def heads(model):
    return {k: v.clone() for k, v in model.state_dict().items() if k.startswith("mlp_head")}


def with_classes(index_path, folder, names):
    """A copy of the shards whose classes have other names."""
    shutil.copytree(index_path.parent, folder)
    index = json.loads(index_path.read_text())
    index["class_names"] = names
    (folder / index_path.name).write_text(json.dumps(index))
    return open_shards([folder / index_path.name])


def test_heads_are_kept_only_for_the_same_classes(index_path, finetuned, tmp_path, caplog):
    shards = open_shards([index_path])
    num_classes = len(shards.class_names)
    trained = heads(restore_model(read_done(finetuned))[0])

    model = fresh_model(num_classes)
    start_from(finetuned, model, shards)
    assert all(torch.equal(heads(model)[key], value) for key, value in trained.items())

    others = [f"other {name}" for name in shards.class_names]
    for names in (others, [*shards.class_names[::-1], "more"]):
        model = fresh_model(len(names))
        before = heads(model)
        caplog.clear()
        start_from(finetuned, model, with_classes(index_path, tmp_path / names[0], names))
        assert all(torch.equal(heads(model)[key], value) for key, value in before.items())
        assert f"heads were trained for {num_classes} other classes" in caplog.text
