"""How far something is: one line that renews itself on a terminal, else one every 30 seconds.

tqdm makes the line; when it is written, and what is in it besides, is decided here, because
several jobs and Snakemake itself share the terminal.
"""

import logging
import sys
import time
from typing import TextIO

from tqdm import tqdm

LOGGER_NAME = __name__
logger = logging.getLogger(LOGGER_NAME)
TERMINAL_SECONDS, HEARTBEAT_SECONDS = 0.5, 30.0
CLEAR_LINE = "\r\x1b[K"
RATE = "{rate_noinv_fmt}, {remaining} left"  # per second, also where it is below 1
BAR = "{desc}: {percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt} {unit}, " + RATE
PLAIN = "{desc}: {n_fmt}/{total_fmt} {unit} ({percentage:.0f}%), " + RATE


class ProgressLine:
    """Counts what is done of ``total``; call it from one thread.

    Args:
        label: what is done, of what. unit: of the count, in the plural.
        num_done: what was done before, which has no part in the rate.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        unit: str = "clips",
        num_done: int = 0,
        stream: TextIO | None = None,
    ) -> None:
        self.label, self.total, self.num_done = label, total, num_done
        self._unit, self._before = unit, num_done
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._started = self._shown_at = time.monotonic()
        self._is_open = False  # a line of ours stands on the terminal, without its end
        self._said = ""

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, count: int = 1, figures: str = "", *, now: bool = False) -> None:
        """Note that ``count`` more are done.

        Args:
            figures: shown behind the remaining time. now: show it even if it is not yet time to.
        """
        self.num_done += count
        if now or self._is_due():
            self._show(self.text(figures))

    def say(self, text: str) -> None:
        """Show what is being done instead of a count; what is new at once."""
        if text != self._said or self._is_due():
            self._said = text
            self._show(f"{self.label}: {text}")

    def text(self, figures: str = "") -> str:
        """Return the line: count, rate, and the time left, in hours where it takes hours."""
        line = tqdm.format_meter(
            self.num_done,
            self.total,
            time.monotonic() - self._started,
            prefix=self.label,
            unit=f" {self._unit}",
            bar_format=BAR if self._is_terminal else PLAIN,
            initial=self._before,
        )
        return line.replace("  ", " ") + (f", {figures}" if figures else "")

    def close(self, *, keep: bool = False) -> None:
        """Take the line off the terminal, or leave it there and end it."""
        if self._is_open:
            print("\n" if keep else CLEAR_LINE, end="", file=self._stream, flush=True)
            self._is_open = False

    def _is_due(self) -> bool:
        interval = TERMINAL_SECONDS if self._is_terminal else HEARTBEAT_SECONDS
        return time.monotonic() - self._shown_at >= interval

    def _show(self, text: str) -> None:
        self._shown_at = time.monotonic()
        if self._is_terminal:
            print(CLEAR_LINE + text, end="", file=self._stream, flush=True)
            self._is_open = True
        else:
            logger.info("%s", text)
