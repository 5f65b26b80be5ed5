"""What is refused when the workflow is planned."""

import pytest

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.check import check_all
from pipeline_src.catalog.possible import refuse_missing_loggers
from pipeline_src.config import Config, resolve_run
from pipeline_src.errors import ConfigError
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.system.atomic import write_json
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


def planned(root, results="results", **run):
    """Ask what one run on the demo's clips asks for."""
    config = Config(results=str(results), datasets=("avdigits",), runs={"one": run})
    check_all(Catalog(config, root / "config/datasets"))


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


LONG_WARMUP = {"pretrain": {"epochs": 2, "warmup_epochs": 100}}
GONE = {"model": {"init": "/gone/vit.pth"}}
REFUSALS = [
    pytest.param(LONG_WARMUP, r"warmup_epochs = 100 of pretrain\.epochs = 2", id="warm-up"),
    pytest.param(GONE, "'/gone/vit.pth' is no file", id="weights"),
]


def trained(results, run, *, ended):
    """Leave what a training of a run leaves, at its end or on the way."""
    folder, values = results / "one/pretrain", resolve_run(Config(runs={"one": run}), "one")
    spec = TrainSpec(
        stage="pretrain", run_dir=folder, model=values.model, recipe=values.pretrain
    ).model_dump(mode="json")
    if ended:
        write_json(folder / "spec.json", spec)
        write_json(folder / "done.json", {})
        return
    hashes = {"model.safetensors": "0"}
    state = {"fingerprint": "f", "step": 2, "num_steps": 9, "sha256": hashes, "spec": spec}
    write_json(folder / "checkpoints/step_2/state.json", state)
    (folder / "checkpoints/step_2/model.safetensors").touch()


def test_a_state_without_its_weights_is_no_start_that_is_behind(root, tmp_path):
    """As a copy leaves it that was killed: the training begins anew."""
    run, refusal = REFUSALS[0].values
    trained(tmp_path, run, ended=False)
    planned(root, tmp_path, **run)
    (tmp_path / "one/pretrain/checkpoints/step_2/model.safetensors").unlink()
    with pytest.raises(ConfigError, match=refusal):
        planned(root, tmp_path, **run)


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "on the way"])
@pytest.mark.parametrize(("run", "refusal"), REFUSALS)
def test_what_only_a_start_needs_is_asked_where_one_is_to_come(root, tmp_path, run, refusal, ended):
    with pytest.raises(ConfigError, match=refusal):
        planned(root, tmp_path, **run)
    trained(tmp_path, run, ended=ended)
    planned(root, tmp_path, **run)


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "on the way"])
@pytest.mark.parametrize(("run", "refusal"), REFUSALS)
def test_a_training_of_other_settings_that_is_there_is_no_start(
    root, tmp_path, run, refusal, ended
):
    trained(tmp_path, {**run, "pretrain": {**run.get("pretrain", {}), "lr": 0.5}}, ended=ended)
    with pytest.raises(ConfigError, match=refusal):
        planned(root, tmp_path, **run)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"stage": "pretrain"}'])
def test_a_finished_training_that_does_not_say_its_settings_is_left_as_it_is(root, tmp_path, text):
    """Which weights it began with nobody knows; refused, results of before could not be read."""
    trained(tmp_path, GONE, ended=True)
    (tmp_path / "one/pretrain/spec.json").write_text(text)
    planned(root, tmp_path, **GONE)


@pytest.mark.parametrize("place", ["", "superseded/000/"])
@pytest.mark.parametrize("spec", [None, {"stage": "pretrain"}])
def test_a_training_on_the_way_that_does_not_say_its_settings_is_no_start(
    root, tmp_path, place, spec
):
    state = {"fingerprint": "f", "step": 2, "num_steps": 9, "sha256": {}, "spec": spec}
    write_json(tmp_path / f"one/pretrain/{place}checkpoints/step_2/state.json", state)
    with pytest.raises(ConfigError, match="is no file"):
        planned(root, tmp_path, **GONE)


def test_a_training_of_one_epoch_keeps_the_warm_up_of_two_that_nobody_chose(root):
    planned(root, pretrain={"epochs": 1}, finetune={"epochs": 1})


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
