"""Progress of a training as its waiter shows it, and a watch for stalls."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from pipeline_src.runs.history import METRICS_LOG_FILE
from pipeline_src.runs.lease import read_holder
from pipeline_src.system.progress import ProgressLine

TAIL_BYTES = 200_000  # a log of weeks is not read anew twice a second


class TrainingProgress:
    """Steps, clips per second, time left, loss and the last validation score, as rows arrive.

    Rows that were there before are of an earlier job, perhaps of another configuration: until
    there are new ones, what the training last said of itself is shown.
    """

    def __init__(self, label: str, run_dir: Path, stream: TextIO | None = None) -> None:
        self._label, self._run_dir, self._stream = label, run_dir, stream
        self._metrics = run_dir / METRICS_LOG_FILE
        self._earlier = last_training_row(self._metrics)
        self._line = ProgressLine(label, 0, stream=stream)
        self._first: dict[str, Any] | None = None

    def show(self, *, waiting: str = "", now: bool = False) -> None:
        """Show the newest row, or what the job waits for, if it is new or time to."""
        rows = read_last_rows(self._metrics)
        row = next((row for row in reversed(rows) if "loss" in row), None)
        if waiting or row is None or row == self._earlier:
            self._line.say(waiting or self._start())
            self._first = None  # a job that waited starts anew
            return
        if self._first is None:
            self._first = row
            self._line = ProgressLine(
                self._label,
                row["num_steps"],
                unit="steps",
                num_done=row["step"],
                stream=self._stream,
            )
        self._line.update(row["step"] - self._line.num_done, self._figures(row, rows), now=now)

    def close(self) -> None:
        """Show the last row and end the line."""
        if self._first:
            self.show(now=True)
        self._line.close(keep=self._first is not None)

    def _start(self) -> str:
        holder = read_holder(self._run_dir)
        return f"starting ({holder.last})" if holder and holder.last else "starting"

    def _figures(self, row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
        assert self._first is not None
        clips = row["samples_seen"] - self._first["samples_seen"]
        seconds = row["seconds"] - self._first["seconds"]
        parts = [f"{clips / seconds:.0f} clips/s"] if seconds > 0 else []
        parts.append(f"loss {row['loss']:.3f}")
        if val := next((one["val"] for one in reversed(rows) if one.get("val")), None):
            name, score = list(val.items())[-1]
            parts.append(f"val {name} {score:.3f}")
        return ", ".join(parts)


class StallWatch:
    """Detects that a running training shows no sign of life, by this machine's clock alone.

    It looks at what the training says of itself (``lease.json``) and at its newest row, so that a
    rank that hangs as a whole, with its own watchdog, is seen too.
    """

    def __init__(self, run_dir: Path, metrics: Path, stall_minutes: float) -> None:
        self._run_dir, self._metrics = run_dir, metrics
        self._stall_seconds = stall_minutes * 60
        self._signs, self._step, self._last = 0, -1, ""
        self._seen_at = time.monotonic()

    def look(self, log: Path, *, is_running: bool) -> str:
        """Return a warning once the job stalls; empty while it advances or waits in a queue."""
        before = (self._signs, self._step)
        if holder := read_holder(self._run_dir):
            self._signs, self._last = holder.signs, holder.last
        if row := last_training_row(self._metrics):
            self._step = row["step"]
        if before != (self._signs, self._step) or not (is_running and self._stall_seconds):
            self._seen_at = time.monotonic()
        num_stalls = (time.monotonic() - self._seen_at) // max(self._stall_seconds, 1e-9)
        if not (is_running and self._stall_seconds and num_stalls):
            return ""
        # In whole multiples, so that a log is not filled with it.
        minutes = num_stalls * self._stall_seconds / 60
        return f"no sign of life for {minutes:g} minutes, the last: {self._last or '-'}; see {log}"


def last_training_row(metrics: Path) -> dict[str, Any] | None:
    """Return the newest complete row that holds a loss."""
    return next((row for row in reversed(read_last_rows(metrics)) if "loss" in row), None)


def read_last_rows(metrics: Path) -> list[dict[str, Any]]:
    """Read the complete rows of the log, of its end where it is long."""
    try:
        with metrics.open("rb") as stream:
            stream.seek(max(0, metrics.stat().st_size - TAIL_BYTES))
            lines = stream.read().decode("utf-8", errors="replace").splitlines()
    except OSError:  # not there yet, or just replaced on a network file system
        return []
    rows = []
    for line in lines:
        with suppress(ValueError):  # cut off at either end
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
