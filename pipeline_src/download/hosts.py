"""Limits per host that all jobs of all chunks keep together, through small locked files.

A token bucket spaces the transfers, slots bound how many run at a time, and a circuit-breaker
pauses a host that answers 429 or asks for a human: no job sends it a request before the pause is
over, and pauses double until it answers. Locks die with their holder, so a killed job leaves none.
"""

import fcntl
import json
import logging
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pipeline_src.config.data import RateLimitConfig
from pipeline_src.errors import MediaError
from pipeline_src.manifest.chunks import clip_key

logger = logging.getLogger(__name__)
SLOT_POLL_SECONDS = 0.05


class RateLimitedError(MediaError):
    """A host that wants fewer requests: rate_limited or bot_check.

    Args:
        retry_after_seconds: how long it asked to wait; 0 = it did not say.
    """

    def __init__(self, reason: str, detail: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason, detail)
        self.retry_after_seconds = retry_after_seconds


class CircuitOpenError(MediaError):
    """The circuit of a host is open: it has been paused ``max_pauses`` times in a row."""


class Host:
    """One host's limits.

    Args:
        folder: shared by every job that downloads; on a file system that can lock.
    """

    def __init__(self, folder: Path, name: str, config: RateLimitConfig) -> None:
        self.name = name
        self._config = config
        self._state_path = folder / f"{clip_key(name)}.json"
        self._slots = [
            folder / f"{clip_key(name)}.slot-{number}"
            for number in range(config.connections_per_host)
        ]
        self._rate = config.host_requests_per_second.get(name, config.requests_per_second)
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Wait for a slot, for the end of a pause and for a token; hold the slot.

        A ``RateLimitedError`` inside pauses the host; success, or another answer about the clip
        alone, ends a row of pauses.

        Raises:
            CircuitOpenError: the host has been paused too often to wait any longer.
        """
        with _any_slot(self._slots):
            while wait := self._next_wait():
                time.sleep(wait)
            started = time.time()
            try:
                yield
            except RateLimitedError as error:
                self._pause(error, started)
                raise
            except MediaError as error:
                if error.reason not in ("timeout", "network", "truncated"):
                    self._answered(started)
                raise
            self._answered(started)

    def _next_wait(self) -> float:
        """Return the seconds until the next look; 0 = go, with a token taken.

        Raises:
            CircuitOpenError: the host is paused, after ``max_pauses`` pauses in a row.
        """
        with _locked_json(self._state_path) as state:
            now = time.time()
            _follow_clock(state, now)
            pause = min(state.get("paused_until", 0.0) - now, self._config.max_pause_seconds)
            if pause > 0:
                if state["pauses"] >= self._config.max_pauses:
                    raise CircuitOpenError(
                        state["reason"],
                        f"{self.name} is paused for another {pause:.0f} s after "
                        f"{state['pauses']} pauses in a row",
                    )
                return pause
            if self._rate == 0:
                return 0.0
            burst = max(1.0, self._rate)
            gained = max(0.0, now - state.get("filled", 0.0)) * self._rate
            tokens = min(burst, state.get("tokens", burst) + gained)
            state.update(filled=now, tokens=tokens - 1 if tokens >= 1 else tokens)
            return 0.0 if tokens >= 1 else (1 - tokens) / self._rate

    def _pause(self, error: RateLimitedError, started: float) -> None:
        with _locked_json(self._state_path) as state:
            if started < state.get("paused_at", 0.0):
                return  # asked before the pause that is already on
            pauses = state.get("pauses", 0)
            seconds = self._config.pause_seconds * 2 ** min(pauses, 30)
            seconds = min(max(seconds, error.retry_after_seconds), self._config.max_pause_seconds)
            now = time.time()
            state.update(
                paused_at=now, paused_until=now + seconds, pauses=pauses + 1, reason=error.reason
            )
        logger.warning(
            "%s answers %s: no transfer from it for %.0f s, in no job (pause %d of %d)",
            self.name,
            error.reason,
            seconds,
            pauses + 1,
            self._config.max_pauses,
        )

    def _answered(self, started: float) -> None:
        with _locked_json(self._state_path) as state:
            if state.get("pauses") and started >= state.get("paused_at", 0.0):
                state["pauses"] = 0


def _follow_clock(state: dict[str, Any], now: float) -> None:
    """Restart a pause that was written before the clock was set back."""
    ahead = state.get("paused_at", 0.0) - now
    if ahead > 0:
        state.update(paused_at=now, paused_until=state["paused_until"] - ahead)


@contextmanager
def _locked_json(path: Path) -> Iterator[dict[str, Any]]:
    """Lock a small state file and write back its changes; one torn by a kill starts afresh."""
    with path.open("a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        before = stream.read()
        try:
            state: dict[str, Any] = json.loads(before)
        except json.JSONDecodeError:
            state = {}
        yield state
        after = json.dumps(state)
        if after != before:
            stream.truncate(0)
            stream.write(after)


@contextmanager
def _any_slot(slots: list[Path]) -> Iterator[None]:
    """Hold one of ``slots``."""
    while True:
        for path in random.sample(slots, len(slots)):
            if stream := _try_lock(path):
                with stream:
                    yield
                return
        time.sleep(SLOT_POLL_SECONDS * random.uniform(0.5, 1.5))


def _try_lock(path: Path) -> TextIO | None:
    stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream
