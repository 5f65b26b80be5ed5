"""What is refused when the workflow is planned."""

import pytest

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.possible import refuse_missing_loggers
from pipeline_src.config import Config
from pipeline_src.errors import ConfigError
from tests.checkpoints import NAMES, make_checkpoint


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "holds", "classes"),
    [("pretrain", "fine-tuning", NAMES), ("finetune", "pre-training", ())],
)
def test_a_checkpoint_of_the_other_stage_is_refused_before_anything_runs(
    root, tmp_path, stage, holds, classes
):
    """One ended in an AssertionError of the evaluation."""
    folder = make_checkpoint(tmp_path / "theirs", classes=classes)
    with pytest.raises(ConfigError, match=rf"{stage}\.checkpoint: .*theirs holds a {holds}; name"):
        planned(root, **{stage: {"checkpoint": str(folder)}})
