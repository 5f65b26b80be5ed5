"""metrics.jsonl, TensorBoard files and further loggers of one run, written by rank 0."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline_src.runs.history import METRICS_LOG_FILE
from pipeline_src.system.atomic import write_text
from pipeline_src.train.loggers import Loggers


class MetricsLog:
    """Append one JSON object per line; rows after the resumed step are dropped first."""

    def __init__(
        self, run_dir: Path, resumed_step: int, open_loggers: Callable[[], Loggers]
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter  # on the rank that writes

        run_dir.mkdir(parents=True, exist_ok=True)
        path = run_dir / METRICS_LOG_FILE
        if path.exists():
            kept = [row for row in read_log(path) if row["step"] <= resumed_step]
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._stream = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=resumed_step + 1)
        self._loggers = open_loggers()

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one row; it must hold ``step``."""
        self._stream.write(json.dumps(row) + "\n")
        self._stream.flush()
        scalars = dict(_flatten(row))
        for name, value in scalars.items():
            self._board.add_scalar(name, value, row["step"])
        self._loggers.write(scalars, row["step"])

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._board.close()
        self._loggers.close(is_whole=kind is None)


class NoLog:
    """The log of every rank but the first."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Write nothing."""

    def __enter__(self) -> "NoLog":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def open_log(
    run_dir: Path, resumed_step: int, open_loggers: Callable[[], Loggers], *, writes: bool
) -> MetricsLog | NoLog:
    """Open the log of a run on the rank that writes, and one that takes nothing on the others."""
    return MetricsLog(run_dir, resumed_step, open_loggers) if writes else NoLog()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read all complete rows, none without a file; a last line cut off by a kill is left out."""
    rows = []
    if not path.exists():
        return rows
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _flatten(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    scalars: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            scalars += _flatten(value, f"{prefix}{name}/")
        elif name != "step":
            scalars.append((prefix + name, float(value)))
    return scalars
