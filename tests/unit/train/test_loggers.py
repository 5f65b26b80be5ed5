"""Further loggers: the log's rows, resumed under the same id, never the end of a training."""

import json
import logging
import time

import pytest

from pipeline_src.config import ModelConfig, PretrainConfig
from pipeline_src.runs.spec import TrainSpec, load_spec
from pipeline_src.train import loggers
from pipeline_src.train.log import open_log
from pipeline_src.train.loggers import Loggers
from pipeline_src.train.superseded import set_aside

NOT_LOCKED = "{} is not in the lock (decision 100): install it to run this"
FIRST = [{"step": 1, "loss": 2.0, "seconds": 0.5}, {"step": 1, "val": {"audio": 0.25}}]
SECOND = [{"step": 2, "loss": 1.0, "seconds": 1.0}]


class LinesLogger:
    """A logger as small as one can be: a file of lines in the folder of logs."""

    def __init__(self, spec, run_id):
        self.run_id = run_id or f"{spec.results.name}-{spec.stage}"
        (spec.results / "logs").mkdir(parents=True, exist_ok=True)
        self.path = spec.results / "logs" / f"{self.run_id}.jsonl"
        self._say("begins again" if run_id else "begins")

    def write(self, scalars, step):
        self._say({"step": step, **scalars})

    def close(self, *, is_whole):
        self._say(is_whole)

    def _say(self, what):
        with self.path.open("a") as stream:
            stream.write(json.dumps(what) + "\n")


class FullLogger(LinesLogger):
    """One whose disk is full from the second row on."""

    num_rows = 0

    def write(self, scalars, step):
        self.num_rows += 1
        if self.num_rows > 1:
            raise OSError(28, "No space left on device")


class BrokenLogger(LinesLogger):
    def __init__(self, spec, run_id):
        raise RuntimeError("cannot begin")


@pytest.fixture(autouse=True)
def tiny_loggers(monkeypatch):
    found = {"lines": LinesLogger, "full": FullLogger, "broken": BrokenLogger}
    monkeypatch.setattr(loggers, "OPENERS", {**loggers.OPENERS, **found})


def make_spec(folder, *names):
    run_dir = folder / "results" / "mine" / "pretrain"
    model, recipe = ModelConfig(), PretrainConfig()
    return TrainSpec(stage="pretrain", run_dir=run_dir, model=model, recipe=recipe, loggers=names)


def write(spec, rows, resumed_step=0, *, writes=True):
    opened = lambda: Loggers(spec)  # noqa: E731 - as the loop has it
    with open_log(spec.run_dir, resumed_step, opened, writes=writes) as log:
        for row in rows:
            log.write(row)


def test_a_resumed_training_continues_the_same_rows_under_the_same_id(tmp_path):
    spec = make_spec(tmp_path, "lines")
    assert spec.results == tmp_path / "results"
    spec.save()
    assert load_spec(spec.run_dir / "spec.json") == spec
    write(spec, FIRST)
    write(spec, SECOND, resumed_step=1)
    lines = (tmp_path / "results/logs/results-pretrain.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == [
        "begins",
        {"step": 1, "loss": 2.0, "seconds": 0.5},
        {"step": 1, "val/audio": 0.25},
        True,
        "begins again",
        {"step": 2, "loss": 1.0, "seconds": 1.0},
        True,
    ]
    kept = [json.loads(line) for line in (spec.run_dir / "metrics.jsonl").open()]
    assert kept == FIRST + SECOND


def test_another_configuration_begins_a_run_of_its_own(tmp_path):
    spec = make_spec(tmp_path, "lines")
    write(spec, FIRST)
    set_aside(spec.run_dir)
    write(spec, SECOND)
    lines = (tmp_path / "results/logs/results-pretrain.jsonl").read_text().splitlines()
    assert [line for line in lines if "begins" in line] == ['"begins"', '"begins"']


def test_one_that_fails_is_left_out_after_one_warning(tmp_path, caplog):
    spec = make_spec(tmp_path, "broken", "full", "lines")
    with caplog.at_level(logging.WARNING):
        write(spec, [*FIRST, *SECOND])
    assert [record.message.split(" takes")[0] for record in caplog.records] == ["broken", "full"]
    assert "cannot begin" in caplog.text
    assert "No space left" in caplog.text
    text = (tmp_path / "results/logs/results-pretrain.jsonl").read_text()
    assert '"loss": 1.0' in text


def test_a_training_that_stops_says_so(tmp_path):
    spec = make_spec(tmp_path, "lines")
    with (
        pytest.raises(KeyboardInterrupt),
        open_log(spec.run_dir, 0, lambda: Loggers(spec), writes=True),
    ):
        raise KeyboardInterrupt
    assert (tmp_path / "results/logs/results-pretrain.jsonl").read_text().endswith("false\n")


def test_other_ranks_and_trainings_without_loggers_write_none(tmp_path):
    write(make_spec(tmp_path, "lines"), FIRST, writes=False)
    write(make_spec(tmp_path), FIRST)
    assert not (tmp_path / "results/logs").exists()
    assert not (tmp_path / "results/mine/pretrain/loggers.json").exists()


def test_mlflow_has_every_row_in_its_file_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason=NOT_LOCKED.format("mlflow-skinny"))
    monkeypatch.chdir(tmp_path)
    spec = make_spec(tmp_path / "a folder", "mlflow")
    write(spec, FIRST)
    write(spec, SECOND, resumed_step=1)
    client = mlflow.MlflowClient((spec.results / "logs/mlruns").as_uri())
    (run,) = client.search_runs(["0"])
    assert (run.info.run_name, run.info.status) == ("mine/pretrain", "FINISHED")
    assert run.data.params["recipe.lr"] == str(spec.recipe.lr)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2.0), (2, 1.0)]
    assert run.data.metrics["val/audio"] == 0.25
    assert [path.name for path in tmp_path.iterdir()] == ["a folder"]


def test_wandb_has_every_row_in_offline_parts_of_one_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason=NOT_LOCKED.format("wandb"))
    monkeypatch.chdir(tmp_path)
    spec = make_spec(tmp_path / "a folder", "wandb")
    write(spec, FIRST)
    write(spec, SECOND, resumed_step=1)
    found = sorted((spec.results / "logs/wandb").rglob("*.wandb"))
    run_id = json.loads((spec.run_dir / "loggers.json").read_text())["wandb"]
    assert [path.name for path in found] == [f"run-{run_id}.wandb"] * 2
    for path, words in zip(found, ((b"val/audio", b"recipe"), (b"loss", b"recipe")), strict=True):
        deadline = time.monotonic() + 30
        while not all(word in path.read_bytes() for word in words):  # its process writes the end
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["a folder"]
