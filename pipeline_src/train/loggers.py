"""wandb and MLflow beside metrics.jsonl: the same rows, kept on this machine; rank 0 alone.

wandb writes runs for ``wandb sync`` below ``<results>/logs/wandb``, MLflow its file store
``<results>/logs/mlruns``. Their runs' ids lie in the training's folder, so that a resumed training
continues with them. Both packages are optional, and imported where one is asked for.
"""

import importlib
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from pipeline_src.runs.spec import LOGGERS_FILE, TrainSpec
from pipeline_src.system.atomic import write_json

logger = logging.getLogger(__name__)
PROJECT, DEFAULT_EXPERIMENT = "av-pipeline", "0"  # the latter is in every store of MLflow
# Neither package may report on its own use; both read these when they are imported.
QUIET = {
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow would have a database
}


class Logger(Protocol):
    """One package's record of one training."""

    run_id: str

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Take a row."""

    def close(self, *, is_whole: bool) -> None:
        """End the record; a training that was stopped or failed is not whole."""


class WandbLogger:
    """An offline run of wandb; what a resumed training adds is another part with the same id."""

    def __init__(self, spec: TrainSpec, run_id: str) -> None:
        wandb = importlib.import_module("wandb")
        self.run_id = run_id or uuid.uuid4().hex
        folder = spec.results / "logs"  # wandb makes one of its name in it
        folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger("wandb").propagate = False  # it has files of its own for what it says
        self._run = wandb.init(
            mode="offline",
            dir=str(folder),
            project=PROJECT,
            name=_name(spec),
            id=self.run_id,
            config=spec.model_dump(mode="json"),
            settings=wandb.Settings(console="off", silent=True, reinit="create_new"),
        )

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Log a row; a second one of the same step is joined with it."""
        self._run.log(dict(scalars), step=step)

    def close(self, *, is_whole: bool) -> None:
        """Write the rest."""
        self._run.finish(exit_code=0 if is_whole else 1)


class MlflowLogger:
    """A run in MLflow's file store; rows that a resumed training makes again stand there twice."""

    def __init__(self, spec: TrainSpec, run_id: str) -> None:
        mlflow = importlib.import_module("mlflow")
        self._metric = importlib.import_module("mlflow.entities").Metric
        store = spec.results / "logs" / "mlruns"
        self._client = mlflow.MlflowClient(store.as_uri())
        if run_id:
            self._client.update_run(run_id, status="RUNNING")
        self.run_id = run_id or self._create_run(spec)

    def _create_run(self, spec: TrainSpec) -> str:
        run_id = self._client.create_run(DEFAULT_EXPERIMENT, run_name=_name(spec)).info.run_id
        for section in ("model", "recipe"):
            for key, value in getattr(spec, section).model_dump(mode="json").items():
                self._client.log_param(run_id, f"{section}.{key}", value)
        return run_id

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Log a row."""
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, step) for name, value in scalars.items()]
        self._client.log_batch(self.run_id, metrics)

    def close(self, *, is_whole: bool) -> None:
        """Write how the training ended."""
        self._client.set_terminated(self.run_id, "FINISHED" if is_whole else "KILLED")


OPENERS: dict[str, Callable[[TrainSpec, str], Logger]] = {
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
}


class Loggers:
    """All loggers of a training; one that fails is left out after a warning."""

    def __init__(self, spec: TrainSpec | None = None) -> None:
        self._open: dict[str, Logger] = {}
        if spec is None or not spec.loggers:
            return
        os.environ |= QUIET
        path = spec.run_dir / LOGGERS_FILE
        for name in spec.loggers:
            with self._outlived(name):
                ids = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
                self._open[name] = OPENERS[name](spec, ids.get(name, ""))
                write_json(path, {**ids, name: self._open[name].run_id})

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Hand a row to each."""
        for name, one in list(self._open.items()):
            with self._outlived(name):
                one.write(scalars, step)

    def close(self, *, is_whole: bool) -> None:
        """End all."""
        for name, one in list(self._open.items()):
            with self._outlived(name):
                one.close(is_whole=is_whole)

    @contextmanager
    def _outlived(self, name: str) -> Iterator[None]:
        """Say what a logger failed with, and continue without it."""
        try:
            yield
        except Exception as error:  # whatever a package raises: no training ends by it
            self._open.pop(name, None)
            logger.warning(
                "%s takes no more rows of this training: %s: %s", name, type(error).__name__, error
            )


def _name(spec: TrainSpec) -> str:
    return spec.run_dir.absolute().relative_to(spec.results).as_posix()
