"""The ledger: one row per clip for every chunk of every stage.

``status`` is ok, skipped (the clip failed in an earlier stage, whose reason is repeated) or failed
(in this stage). Reasons come from one closed list; permanent ones are never retried.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pipeline_src.errors import ManifestError, shown
from pipeline_src.system.atomic import write_text

PERMANENT_REASONS = (
    "unavailable",
    "private",
    "removed",
    "geo_blocked",
    "age_restricted",
    "no_audio",
    "no_video",
    "too_short",
    "corrupt",
    "unsupported",
)
TRANSIENT_REASONS = (
    "timeout",
    "rate_limited",
    "bot_check",
    "truncated",
    "network",
    "disk_full",
)
REASONS = PERMANENT_REASONS + TRANSIENT_REASONS
FILE_REASONS = ("", "unavailable")  # of a download, which another file at the source would change
LEDGER_SUFFIX = ".ledger.csv"  # in place of its manifest's
MAX_DETAIL_CHARS = 1000
FLAGS = (
    "silent_audio",
    "static_video",
    "short",
    "gaps",
    "decode_errors",
    "other_sound",
    "bad_samples",
    "open_end",
    "duplicate",
)

Status = Literal["ok", "skipped", "failed"]


@dataclass(frozen=True)
class LedgerRow:
    """The outcome of one clip in one stage.

    Args:
        reason: one of REASONS unless status is ok, then empty.
        attempts: number of tries in this stage; 0 where none was needed. Requests that were told
            to slow down do not count.
        flags: subset of FLAGS joined by ``;`` on ok rows.
        detail: a human sentence: the tail of the tool's error.
    """

    clip_id: str
    status: Status
    reason: str = ""
    attempts: int = 1
    flags: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if self.status not in ("ok", "skipped", "failed"):
            raise ValueError(f"{self.clip_id}: status {self.status!r}")
        if (self.status == "ok") != (self.reason == ""):
            raise ValueError(f"{self.clip_id}: status {self.status!r} with reason {self.reason!r}")
        if self.reason and self.reason not in REASONS:
            raise ValueError(f"{self.clip_id}: reason {self.reason!r} is not one of {REASONS}")


class SourceFile(NamedTuple):
    """Where a download found a clip, or did not.

    Args:
        detail: why it was unavailable; empty = it was there.
        num_bytes: its size then. seen: when, in seconds since the epoch.
    """

    source: str
    detail: str
    num_bytes: int
    seen: float


IsAnotherNow = Callable[[SourceFile], bool]
RowT = TypeVar("RowT", bound=LedgerRow)


def write_ledger(path: Path, rows: Sequence[LedgerRow], num_in: int) -> None:
    """Write the ledger of one chunk.

    Raises:
        AssertionError: a clip that went in does not have exactly one row.
    """
    if len({row.clip_id for row in rows}) != len(rows) or len(rows) != num_in or not rows:
        raise AssertionError(f"{path}: {len(rows)} rows for {num_in} clips")
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(rows[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(row), "detail": one_line(row.detail)} for row in rows)
    write_text(path, text.getvalue())


def read_ledger(path: Path, row_type: type[RowT] = LedgerRow) -> list[RowT]:
    """Read a ledger back; further columns of a stage are left out.

    Raises:
        ManifestError: it is missing or damaged.
    """
    columns = {field.name: field.type for field in fields(row_type)}
    rows: list[RowT] = []
    line = 1
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            if missing := columns.keys() - set(reader.fieldnames or ()):
                raise ManifestError(
                    f"{path}: columns {sorted(missing)} are missing; delete it and run again"
                )
            for row in reader:
                line = reader.line_num
                values = {name: _typed(row[name], kind) for name, kind in columns.items()}
                rows.append(row_type(**values))
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such ledger; delete its manifest and run again") from None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise ManifestError(
            f"{path}:{line}: damaged ledger ({shown(error)}); delete it and its manifest and run "
            "again"
        ) from None
    return rows


def count_retried(path: Path, is_another_now: IsAnotherNow = lambda file: False) -> int:
    """Count the clips of a stage that another try may change; much faster than reading the rows.

    Args:
        path: ledger of a stage, whose own transient failures count.
        is_another_now: whether the file of a clip that was fetched, or was unavailable, has
            changed since.
    Raises:
        ManifestError: it is no ledger.
    """
    seen = path.stat().st_mtime
    with path.open(newline="", encoding="utf-8") as stream:
        try:
            rows = csv.reader(stream)
            column = {name: number for number, name in enumerate(next(rows, []))}
            status, reason, detail = (column[name] for name in ("status", "reason", "detail"))
            source, size = column.get("source"), column.get("bytes")
            count = 0
            for row in rows:
                if row[status] == "failed" and row[reason] in TRANSIENT_REASONS:
                    count += 1
                elif source is not None and size is not None and row[reason] in FILE_REASONS:
                    why = row[detail] if row[reason] else ""
                    count += is_another_now(SourceFile(row[source], why, int(row[size]), seen))
            return count
        except (KeyError, ValueError, IndexError, csv.Error):
            raise ManifestError(f"{path}: no ledger; delete it and run again") from None


def one_line(text: str) -> str:
    """Clean the text of a foreign tool of what would tear a CSV file or a terminal."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:MAX_DETAIL_CHARS]


def _typed(text: str | None, kind: object) -> Any:
    if text is None:
        raise ValueError("a row is too short")
    return int(text) if kind is int else float(text) if kind is float else text


def count_status(rows: Iterable[LedgerRow]) -> dict[str, int]:
    """Return {"ok": …, "skipped": …, "failed": …}, all three always present."""
    counts = Counter(row.status for row in rows)
    return {status: counts[status] for status in ("ok", "skipped", "failed")}


def count_reasons(rows: Iterable[LedgerRow]) -> dict[str, int]:
    """Count the lost clips per reason, most frequent first."""
    return dict(Counter(row.reason for row in rows if row.reason).most_common())


def describe_losses(rows: Sequence[LedgerRow], path: Path) -> str:
    """Return ``12 of 100 clips lost: corrupt 7, no_audio 5; the first: ... (<ledger>)``.

    Args:
        path: where the rows are written.
    """
    reasons = count_reasons(rows)
    head = f"{sum(reasons.values())} of {len(rows)} clips lost"
    if not reasons:
        return head
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
    first = next((row for row in rows if row.status == "failed"), None)
    if first is None:
        return f"{head}: {listed}, all by earlier stages"
    detail = f": {one_line(first.detail)}" if first.detail else ""
    return f"{head}: {listed}; the first: {first.clip_id!r}, {first.reason}{detail} ({path})"
