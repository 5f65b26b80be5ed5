"""Shows how far a training is: a live line on a terminal, else a heartbeat."""

import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from pipeline_src.runs.lease import read_holder

HEARTBEAT_SECONDS = 30.0


class Progress:
    """Prints ``label 120/400 30% 512 clips/s eta 1:20 loss 2.31`` as rows arrive."""

    def __init__(self, label: str, metrics: Path, stream: TextIO = sys.stderr) -> None:
        self._label, self._metrics, self._stream = label, metrics, stream
        self._is_terminal = stream.isatty()
        self._shown, self._shown_at = ("", -1), 0.0
        self._first: dict[str, Any] | None = None

    def show(self, *, waiting: str = "", force: bool = False) -> None:
        """Print the newest row, or what the job waits for, if it is new and time to."""
        row = None if waiting else last_training_row(self._metrics)
        shown = (waiting, row["step"] if row else -1)
        if shown in (self._shown, ("", -1)):
            return
        changed = waiting and waiting != self._shown[0]
        due = self._is_terminal or time.monotonic() - self._shown_at > HEARTBEAT_SECONDS
        if not (due or force or changed):
            return
        self._first = (self._first or row) if row else None  # a job that waited starts anew
        start, end = ("\r\x1b[K", "") if self._is_terminal else ("", "\n")
        text = f"{self._label} {waiting}" if row is None else self._line(row)
        print(start + text, end=end, file=self._stream, flush=True)
        self._shown, self._shown_at = shown, time.monotonic()

    def close(self) -> None:
        """Print the last row and end the line."""
        self.show(force=True)
        if self._is_terminal and self._shown != ("", -1):
            print(file=self._stream, flush=True)

    def _line(self, row: dict[str, Any]) -> str:
        first = self._first or row
        clips = row["samples_seen"] - first["samples_seen"]
        seconds = row["seconds"] - first["seconds"]
        rate = clips / seconds if seconds > 0 else row["samples_seen"] / max(row["seconds"], 1e-9)
        left = (row["num_steps"] / row["step"] - 1) * row["samples_seen"] / max(rate, 1e-9)
        minutes, rest = divmod(round(left), 60)
        share = 100 * row["step"] / row["num_steps"]
        return (
            f"{self._label} {row['step']}/{row['num_steps']} {share:.0f}% "
            f"{rate:.0f} clips/s eta {minutes}:{rest:02d} loss {row['loss']:.3f}"
        )


class StallWatch:
    """Notices that a running training shows no sign of life, by this machine's clock alone.

    It looks at what the training says of itself (``lease.json``) and at its newest row, so that a
    rank that hangs as a whole, with its own watchdog, is seen too.
    """

    def __init__(self, run_dir: Path, metrics: Path, stall_minutes: float) -> None:
        self._run_dir, self._metrics = run_dir, metrics
        self._stall_seconds = stall_minutes * 60
        self._signs, self._step, self._last = 0, -1, ""
        self._seen_at = time.monotonic()

    def look(self, log: Path, *, is_running: bool) -> str:
        """What to tell; nothing while it goes on, or waits in a queue."""
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
    """The newest complete row that holds a loss."""
    try:
        lines = metrics.read_text(encoding="utf-8").splitlines()
    except OSError:  # not there yet, or just replaced on a network file system
        return None
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "loss" in row:
            return row
    return None
