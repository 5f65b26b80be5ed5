"""Files at URLs, fetched as the download stage fetches them: bounded, guarded, with its reasons."""

import threading
from pathlib import Path

import requests

from pipeline_src.config.data import DownloadConfig, RateLimitConfig
from pipeline_src.datasets.sources import source_kind, source_problem
from pipeline_src.download.bodies import names_playlist
from pipeline_src.download.http import fetch_http, open_session
from pipeline_src.download.retry_policy import RetryPolicy
from pipeline_src.download.secrets import read_secrets
from pipeline_src.download.sources import Fetched, FetchFailure, host_of
from pipeline_src.download.store import part_path
from pipeline_src.download.ytdlp import fetch_page, needs_ytdlp
from pipeline_src.errors import MediaError
from pipeline_src.transcode.ffmpeg import find_ffmpeg


class UrlFetcher:
    """Fetches URLs into files; its threads share connections and how often a host is asked.

    Args:
        folder: of the hosts' limits.
    """

    def __init__(self, config: DownloadConfig, folder: Path) -> None:
        self._config = config
        self._retries = RetryPolicy(folder, RateLimitConfig(), config.max_attempts)
        self._secrets = read_secrets()
        self._lock = threading.Lock()
        self._session: requests.Session | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._session:
            self._session.close()

    def fetch(self, url: str, target: Path) -> None:
        """Write what is at ``url`` to ``target``.

        Raises:
            MediaError: it cannot be had; the reason is one of the ledger's.
        """
        if problem := source_problem(url):
            raise MediaError("unsupported", problem)
        if source_kind(url) not in ("http", "youtube"):
            raise MediaError("unsupported", "only http(s) and youtube:<id> are fetched here")
        outcome = self._retries.fetch(host_of(url), lambda: self._attempt(url, target))
        if isinstance(outcome, FetchFailure):
            raise MediaError(outcome.reason, self._secrets.scrub(outcome.detail))
        part = part_path(target)
        if part.exists():
            part.replace(target)

    def _attempt(self, url: str, target: Path) -> Fetched:
        if names_playlist(url) or needs_ytdlp(url):
            return fetch_page(url, target, self._config, self._secrets, find_ffmpeg())
        # Pictures are welcome here; what is no recording either is told when it is opened.
        return fetch_http(self._opened(), url, target, self._config, is_media=False)

    def _opened(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                self._session = open_session(self._config.num_connections, self._secrets)
            return self._session
