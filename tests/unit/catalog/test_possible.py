"""What is refused when the workflow is planned."""

import pytest

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.possible import refuse_missing_loggers
from pipeline_src.config import Config
from pipeline_src.errors import ConfigError
from tests.checkpoints import NAMES, SIZES, make_checkpoint

INPUT_SIZES = ("img_size", "target_length", "num_mel_bins")


def test_a_logger_without_its_package_is_refused_a_folder_of_that_name_is_none(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_folder").mkdir()
    (tmp_path / "some_logger.py").touch()
    refuse_missing_loggers(())
    refuse_missing_loggers(["some_logger"])
    for missing in ("some_folder", "not_there"):
        with pytest.raises(ConfigError, match=rf"{missing} is not installed; pip install '.*\]'"):
            refuse_missing_loggers(["some_logger", missing])


def planned(root, **run):
    """Everything that one run on the demo's clips asks for."""
    catalog = Catalog(Config(datasets=("avdigits",), runs={"one": run}), root / "config/datasets")
    return [catalog.pretrain_done("one"), catalog.finetune_dones("avdigits")]


@pytest.mark.parametrize(
    "run",
    [
        {"model": {"init": "tim"}},
        {"model": {"init": "/nowhere/vit.pth"}},
        {"model": {"init": "tim"}, "finetune": {"init": "scratch"}},
    ],
)
def test_initial_weights_that_are_not_there_are_refused_before_anything_runs(root, run):
    """The training said so, after all data stages."""
    with pytest.raises(ConfigError, match=r"run one: model\.init: .* is no file.*allowed: random"):
        planned(root, **run)


def test_initial_weights_that_are_there_are_not(root, tmp_path):
    (tmp_path / "vit.pth").touch()
    planned(root, model={"init": str(tmp_path / "vit.pth")})
    planned(root, model={"init": "timm"})


def test_weights_that_a_finished_training_began_with_may_be_gone(root, tmp_path):
    run = {"model": {"init": "/gone/vit.pth"}}
    config = Config(results=str(tmp_path), datasets=("avdigits",), runs={"one": run})
    catalog = Catalog(config, root / "config/datasets")
    with pytest.raises(ConfigError, match="is no file"):
        catalog.own_pretrain_done("one")
    done = tmp_path / "one/pretrain/done.json"
    done.parent.mkdir(parents=True)
    done.touch()
    assert catalog.own_pretrain_done("one") == str(done)


def test_a_warm_up_that_is_longer_than_its_training_is_refused_where_one_begins(root, tmp_path):
    """And nowhere else: finished results, and stages that nobody trains, may have one."""
    run = {"pretrain": {"epochs": 2, "warmup_epochs": 100}}
    config = Config(results=str(tmp_path), datasets=("avdigits",), runs={"one": run})
    catalog = Catalog(config, root / "config/datasets")
    with pytest.raises(ConfigError, match=r"warmup_epochs = 100 of pretrain\.epochs = 2"):
        catalog.own_pretrain_done("one")
    done = tmp_path / "one/pretrain/done.json"
    done.parent.mkdir(parents=True)
    done.touch()
    catalog.own_pretrain_done("one")
    planned(root, pretrain={"epochs": 1}, finetune={"epochs": 1})


def test_other_weights_to_begin_with_are_looked_for_though_a_training_is_there(root, tmp_path):
    run = {"model": {"init": "tim"}}
    config = Config(results=str(tmp_path), datasets=("avdigits",), runs={"one": run})
    folder = tmp_path / "one/pretrain"
    folder.mkdir(parents=True)
    (folder / "done.json").touch()
    (folder / "spec.json").write_text('{"model": {"init": "random"}}')
    with pytest.raises(ConfigError, match="'tim' is no file"):
        Catalog(config, root / "config/datasets").own_pretrain_done("one")


@pytest.mark.slow
def test_a_pre_training_that_is_to_stand_for_a_fine_tuning_is_refused_before_anything_runs(
    root, tmp_path
):
    folder = make_checkpoint(tmp_path / "theirs", classes=())
    refusal = r"finetune\.checkpoint: .*theirs holds a pre-training; name a fine-tuning"
    with pytest.raises(ConfigError, match=refusal):
        planned(root, finetune={"checkpoint": str(folder)})


@pytest.mark.slow
def test_a_fine_tuning_may_be_what_another_starts_from(root, tmp_path):
    folder = make_checkpoint(tmp_path / "theirs", classes=NAMES, num_frames=1)
    sizes = {key: value for key, value in SIZES.items() if key not in INPUT_SIZES}
    model = {"size": "tiny", "img_size": 32, "target_length": 96, "overrides": sizes}
    config = {"runs": {"one": {"model": model, "pretrain": {"checkpoint": str(folder)}}}}
    audio = {"audio": {"num_mel_bins": 32}, "datasets": ["avdigits"]}
    catalog = Catalog(Config.model_validate({**config, **audio}), root / "config/datasets")
    assert catalog.own_pretrain_done("one") == str(folder / "done.json")
    more = {"model": model, "pretrain": {"checkpoint_run": "one"}}
    runs = {**config["runs"], "more": more}
    catalog = Catalog(Config.model_validate({**audio, "runs": runs}), root / "config/datasets")
    with pytest.raises(ConfigError, match="theirs holds a fine-tuning; name a pre-training"):
        catalog.start_done("more")
