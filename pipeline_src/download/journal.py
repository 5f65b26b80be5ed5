"""The journal of a chunk's download: the outcome of every fetch so far, written as it happens.

``fetched.jsonl`` lies in the chunk's raw folder and is no declared output: it outlives the job. A
killed job finds there what it has and what has failed permanently; transient failures are
retried by the next job.
"""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from pipeline_src.download.sources import Fetched, FetchFailure, Outcome
from pipeline_src.download.store import part_path
from pipeline_src.manifest.ledger import TRANSIENT_REASONS
from pipeline_src.system.atomic import file_sha256
from pipeline_src.system.url_secrets import hide_secrets

FILE_NAME = "fetched.jsonl"


class Record(NamedTuple):
    """One line of the journal.

    Args:
        file: name in the raw folder. attempts: over all jobs so far. seconds: of the last job.
        finished: UTC, ISO 8601. settings: hash of what the answer depends on beside the source.
    """

    file: str
    source: str
    reason: str = ""
    detail: str = ""
    bytes: int = 0
    sha256: str = ""
    attempts: int = 1
    seconds: float = 0.0
    finished: str = ""
    tool: str = ""
    settings: str = ""


class DownloadJournal:
    """Append-only journal of one chunk; safe to use from several threads.

    Args:
        settings: permanent failures under other settings are retried.
    """

    def __init__(self, raw_folder: Path, settings: str) -> None:
        self.folder = raw_folder
        self._settings = settings
        self._records = read_records(raw_folder / FILE_NAME)
        self._stream = (raw_folder / FILE_NAME).open("a", encoding="utf-8")
        self._stream.write("\n")  # ends a line that a kill cut short
        self._lock = threading.Lock()

    def __enter__(self) -> "DownloadJournal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def record(self, source: str) -> Record | None:
        """Return the last line about ``source``."""
        return self._records.get(hide_secrets(source))

    def find(self, source: str, target: Path) -> Outcome | None:
        """Return what need not be requested again: a whole file, or a permanent failure."""
        record = self.record(source)
        if record is None or record.file != target.name:
            return None
        if record.reason:
            is_final = record.reason not in TRANSIENT_REASONS and record.settings == self._settings
            return FetchFailure(record.reason, record.detail, record.attempts) if is_final else None
        for path in (target, part_path(target)):  # a kill may fall between log and rename
            if _is_whole(path, record):
                path.replace(target)
                return Fetched(target, record.bytes, record.sha256, record.attempts)
        return None

    def keep(
        self, source: str, target: Path, outcome: Outcome, *, seconds: float, tool: str
    ) -> Outcome:
        """Record an outcome, then let a fetched file appear; attempts are added up."""
        before = self.record(source)
        attempts = outcome.attempts + (before.attempts if before else 0)
        record = Record(
            target.name,
            hide_secrets(source),
            attempts=attempts,
            seconds=round(seconds, 3),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            tool=tool,
            settings=self._settings,
        )
        if isinstance(outcome, FetchFailure):
            record = record._replace(reason=outcome.reason, detail=outcome.detail)
        else:
            record = record._replace(bytes=outcome.bytes, sha256=outcome.sha256)
        with self._lock:
            self._stream.write(json.dumps(record._asdict()) + "\n")
            self._stream.flush()
            self._records[record.source] = record
        if isinstance(outcome, Fetched):
            part_path(target).replace(target)
        return outcome._replace(attempts=attempts)


def _is_whole(path: Path, record: Record) -> bool:
    has_size = path.is_file() and path.stat().st_size == record.bytes
    return has_size and file_sha256(path) == record.sha256


def read_records(path: Path) -> dict[str, Record]:
    """Read the last record of each source; empty lines and torn ones are skipped."""
    if not path.is_file():
        return {}
    records = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = Record(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            continue
        records[record.source] = record
    return records
