"""Fetch sources, each once however many clips are cut from it, kind by kind.

An error of one clip fails that clip only: no exception but a full disk or a wrong setting ends the
chunk.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import requests

from pipeline_src.config.data import DownloadConfig
from pipeline_src.datasets.clip_lists import ClipRow
from pipeline_src.datasets.sources import Kind, source_kind, source_problem, split_member
from pipeline_src.download.bodies import PageError, names_playlist, names_recording
from pipeline_src.download.http import fetch_http, open_session
from pipeline_src.download.journal import DownloadJournal
from pipeline_src.download.local import fetch_local, fetch_local_members, find_local, is_file
from pipeline_src.download.remote_archive import fetch_remote_members
from pipeline_src.download.retry_policy import RetryPolicy
from pipeline_src.download.secrets import Secrets
from pipeline_src.download.sources import Fetched, FetchFailure, Outcome, host_of, raw_extension
from pipeline_src.download.ytdlp import fetch_page, needs_ytdlp, tool_name
from pipeline_src.errors import MediaError, PipelineError, StageError, is_disk_full
from pipeline_src.manifest.chunks import clip_key

logger = logging.getLogger(__name__)
HTTP_TOOL = f"requests {requests.__version__}"
ARCHIVE_TOOL = "python archives"


class Job(NamedTuple):
    """One source, the clips that need it, and where it is kept.

    Args:
        may_be_page: whether an answer that is a page may lead on to the recording.
    """

    source: str
    target: Path
    clip_ids: tuple[str, ...]
    may_be_page: bool = False


class Fetcher:
    """All that fetching the clips of one chunk needs."""

    def __init__(
        self,
        root: Path,
        log: DownloadJournal,
        config: DownloadConfig,
        retries: RetryPolicy,
        secrets: Secrets,
        ffmpeg: str,
    ) -> None:
        self._root = root
        self._log = log
        self._config = config
        self._retries = retries
        self._secrets = secrets
        self._ffmpeg = ffmpeg

    def fetch_all(
        self, clips: Sequence[ClipRow], mirrored: Collection[str] = ()
    ) -> Iterator[tuple[str, Outcome]]:
        """Yield each clip's id and the outcome of its source.

        Args:
            mirrored: ids of clips whose source is a mirror's: recordings, never pages.
        """
        by_kind: dict[Kind, list[Job]] = {}
        for job in _jobs(clips, self._log.folder, mirrored):
            by_kind.setdefault(self._kind(job.source), []).append(job)
        streams = (
            self._unsupported(by_kind.get("unsupported", [])),
            self._local(by_kind.get("local", [])),
            self._members(by_kind.get("member", [])),
            self._remote(by_kind.get("http", []) + by_kind.get("youtube", [])),
        )
        for stream in streams:
            for job, outcome in stream:
                if isinstance(outcome, FetchFailure):
                    outcome = outcome._replace(detail=self._secrets.scrub(outcome.detail))
                yield from ((clip_id, outcome) for clip_id in job.clip_ids)

    def _kind(self, source: str) -> Kind:
        kind = source_kind(source)
        if kind == "local":
            return "unsupported" if source_problem(source) else kind
        if kind == "member" and source_kind(split_member(source)[0]) == "local":
            return "local" if is_file(self._root / source) else kind  # a name is a name
        return "unsupported" if source_problem(source) else kind

    def _unsupported(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        for job in jobs:
            detail = f"{job.source}: {source_problem(job.source)}"
            yield job, FetchFailure("unsupported", detail, attempts=0)

    def _local(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        for job in jobs:
            path = find_local(self._root, job.source)
            yield job, fetch_local(path, self._config.max_bytes)

    def _members(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Read each archive once."""
        wanted: dict[str, dict[str, Job]] = {}
        for job in jobs:
            if known := self._log.find(job.source, job.target):
                yield job, known
            else:
                archive, member = split_member(job.source)
                wanted.setdefault(archive, {})[member] = job
        if not wanted:
            return
        with open_session(1, self._secrets) as session:
            for archive, members in wanted.items():
                yield from self._read_archive(session, archive, members)

    def _read_archive(
        self, session: requests.Session, archive: str, members: Mapping[str, Job]
    ) -> Iterator[tuple[Job, Outcome]]:
        targets = {name: job.target for name, job in members.items()}
        left = dict(members)
        is_local = source_kind(archive) == "local"
        started = time.monotonic()
        try:
            if is_local:
                path = find_local(self._root, archive)
                found = fetch_local_members(path, targets, self._config)
            else:
                found = fetch_remote_members(session, archive, targets, self._config, self._retries)
            for name, outcome in found:
                job = left.pop(name)
                seconds = time.monotonic() - started
                started += seconds
                # A local archive may be repaired, and reading it again costs no request.
                is_kept = isinstance(outcome, Fetched) or not is_local
                yield job, self._keep(job, outcome, seconds, ARCHIVE_TOOL) if is_kept else outcome
        except Exception as error:
            failure = _as_failure(error, archive)
            yield from ((job, failure) for job in left.values())

    def _remote(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        if not jobs:
            return
        num_connections = self._config.num_connections
        with (
            open_session(num_connections, self._secrets) as session,
            ThreadPoolExecutor(num_connections) as pool,
        ):
            running = {pool.submit(self._fetch_remote, session, job): job for job in jobs}
            try:
                for done in as_completed(running):
                    yield running[done], done.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _fetch_remote(self, session: requests.Session, job: Job) -> Outcome:
        if known := self._log.find(job.source, job.target):
            return known
        seconds = 0.0
        is_page = names_playlist(job.source) or needs_ytdlp(job.source)

        def attempt() -> Fetched:
            nonlocal seconds, is_page
            started = time.monotonic()
            try:
                if not is_page:
                    try:
                        return fetch_http(session, job.source, job.target, self._config)
                    except PageError:
                        if not job.may_be_page:
                            raise
                        is_page = True
                return fetch_page(job.source, job.target, self._config, self._secrets, self._ffmpeg)
            finally:
                seconds += time.monotonic() - started

        try:
            outcome = self._retries.fetch(host_of(job.source), attempt)
        except Exception as error:
            outcome = _as_failure(error, job.source)
        return self._keep(job, outcome, seconds, tool_name() if is_page else HTTP_TOOL)

    def _keep(self, job: Job, outcome: Outcome, seconds: float, tool: str) -> Outcome:
        if isinstance(outcome, FetchFailure):
            outcome = outcome._replace(detail=self._secrets.scrub(outcome.detail))
        return self._log.keep(job.source, job.target, outcome, seconds=seconds, tool=tool)


def _as_failure(error: Exception, what: str) -> FetchFailure:
    """Turn an exception into the clip's failure: an unforeseen one is transient, and is logged.

    Raises:
        PipelineError: it is not about the clip: the disk is full, a setting is wrong.
    """
    if isinstance(error, MediaError):
        return FetchFailure(error.reason, error.detail)
    if isinstance(error, PipelineError):
        raise error
    if is_disk_full(error):
        raise StageError(f"disk full while {what} was fetched; free space and run again") from error
    logger.warning("%s: an unforeseen %s", what, type(error).__name__, exc_info=error)
    return FetchFailure("network", f"{what}: unforeseen {type(error).__name__}: {error}")


def _jobs(clips: Sequence[ClipRow], folder: Path, mirrored: Collection[str]) -> list[Job]:
    by_source: dict[str, list[ClipRow]] = {}
    for clip in clips:
        by_source.setdefault(clip.source, []).append(clip)
    jobs = []
    for source, sharing in by_source.items():
        ids = tuple(clip.clip_id for clip in sharing)
        may_be_page = not names_recording(source) and not set(ids) & set(mirrored)
        jobs.append(Job(source, _raw_path(folder, sharing[0]), ids, may_be_page))
    return jobs


def _raw_path(raw_folder: Path, clip: ClipRow) -> Path:
    return raw_folder / (clip_key(clip.clip_id) + raw_extension(clip.source))
