"""Retries: transient failures after growing waits, never during a host's pause."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from pipeline_src.config.data import RateLimitConfig
from pipeline_src.download.hosts import CircuitOpenError, Host, RateLimitedError
from pipeline_src.download.sources import Fetched, FetchFailure, Outcome
from pipeline_src.errors import MediaError
from pipeline_src.manifest.ledger import TRANSIENT_REASONS

T = TypeVar("T")


class RetriesExhaustedError(MediaError):
    """An error that must not be retried further, whatever its reason."""


class RetryResult(NamedTuple, Generic[T]):
    """The value, or None and the last error; and how many attempts it took."""

    value: T | None
    error: MediaError | None
    attempts: int


class RetryPolicy:
    """Number and spacing of attempts within the hosts' limits; shared by all threads of a job.

    Args:
        folder: of the limits that jobs share. max_attempts: per clip, pauses not counted.
    """

    def __init__(self, folder: Path, config: RateLimitConfig, max_attempts: int) -> None:
        self._folder = folder
        self._config = config
        self._max_attempts = max_attempts

    def fetch(self, host: str, action: Callable[[], Fetched]) -> Outcome:
        """Call ``action`` until it succeeds or the retries are exhausted."""
        tried = self.call(host, action)
        if tried.value is None:
            assert tried.error is not None
            return FetchFailure(tried.error.reason, tried.error.detail, tried.attempts)
        return tried.value._replace(attempts=tried.attempts)

    def call(self, host: str, action: Callable[[], T]) -> RetryResult[T]:
        """Call ``action`` while holding a slot of the host; it raises MediaError where it fails."""
        limits = Host(self._folder, host, self._config)
        attempts = pauses = 0
        while True:
            try:
                with limits.acquire():
                    return RetryResult(action(), None, attempts + 1)
            except CircuitOpenError as error:
                return RetryResult(None, error, attempts)
            except RateLimitedError as error:
                pauses += 1
                if pauses >= self._config.max_pauses:
                    return RetryResult(None, error, attempts)
            except MediaError as error:
                attempts += 1
                if not self.should_retry(error, attempts):
                    return RetryResult(None, error, attempts)

    def should_retry(self, error: MediaError, attempts: int) -> bool:
        """Return whether to try again after so many attempts; if so, wait first."""
        is_final = error.reason not in TRANSIENT_REASONS or isinstance(error, RetriesExhaustedError)
        if is_final or attempts >= self._max_attempts:
            return False
        longest = self._config.backoff_seconds * 2 ** min(attempts - 1, 30)
        longest = min(longest, self._config.max_backoff_seconds)
        time.sleep(random.uniform(longest / 2, longest))
        return True
