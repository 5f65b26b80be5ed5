"""One parquet file of all ledgers of a data set: the state of every clip, and why."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.manifest.ledger import LEDGER_SUFFIX, TRANSIENT_REASONS, LedgerRow, read_ledger
from pipeline_src.manifest.rows import FetchRow
from pipeline_src.system.atomic import atomic_path

# In the order in which a clip passes them.
STAGES = ("download", "transcode", "logmel", "shards")
FETCHED = ("source", "attempts", "bytes", "sha256", "seconds", "tool")
DECODED = (
    ("start_seconds", pa.float64()),
    ("end_seconds", pa.float64()),
    ("duration_seconds", pa.float64()),
    ("fps", pa.float64()),
    ("audio_codec", pa.string()),
    ("video_codec", pa.string()),
)
SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("chunk", pa.string()),
        ("clip_id", pa.string()),
        ("source", pa.string()),
        ("stage", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("is_transient", pa.bool_()),
        ("detail", pa.string()),
        ("flags", pa.string()),
        ("attempts", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("seconds", pa.float64()),
        ("finished", pa.timestamp("s", tz="UTC")),
        ("tool", pa.string()),
        *DECODED,
        *(
            (f"{stage}_{column}", pa.string())
            for stage in STAGES
            for column in ("status", "reason")
        ),
    ]
)


def collect_ledgers(manifests: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Write the state of every clip to ``path``, a row group per chunk: bounded memory.

    Args:
        manifests: stage -> its manifest of every chunk, the same chunks in the same order. Columns
            of stages that are not there stay null.
    """
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        for chunk in zip(*manifests.values(), strict=True):
            records = _chunk_records(dict(zip(manifests, chunk, strict=True)))
            writer.write_table(pa.Table.from_pylist(records, SCHEMA))


def _chunk_records(manifests: Mapping[str, Path]) -> list[dict[str, Any]]:
    fetched = read_ledger(manifests["download"].with_suffix(LEDGER_SUFFIX), FetchRow)
    rows: dict[str, dict[str, LedgerRow]] = {row.clip_id: {"download": row} for row in fetched}
    for stage in manifests.keys() - {"download"}:
        for row in read_ledger(manifests[stage].with_suffix(LEDGER_SUFFIX)):
            rows[row.clip_id][stage] = row
    decoded: dict[str, dict[str, Any]] = {}
    if "transcode" in manifests:
        for clip in read_chunk(manifests["transcode"], "transcode").clips:
            decoded[clip["clip_id"]] = {name: clip[name] for name, _ in DECODED}
    place = {"split": manifests["download"].parent.name, "chunk": manifests["download"].stem}
    return [
        place | _fetch_columns(row) | _end_columns(rows[row.clip_id]) | decoded.get(row.clip_id, {})
        for row in fetched
    ]


def _fetch_columns(row: FetchRow) -> dict[str, Any]:
    finished = datetime.fromisoformat(row.finished) if row.finished else None
    return {name: getattr(row, name) for name in FETCHED} | {"finished": finished}


def _end_columns(rows: Mapping[str, LedgerRow]) -> dict[str, Any]:
    """Return status and reason of every stage, and those of the last that the clip reached."""
    reached = [stage for stage in STAGES if stage in rows and rows[stage].status != "skipped"]
    last = rows[reached[-1]]
    columns = {"clip_id": last.clip_id, "stage": reached[-1], "status": last.status}
    columns |= {"reason": last.reason, "is_transient": last.reason in TRANSIENT_REASONS}
    columns |= {"detail": last.detail, "flags": last.flags}
    for stage, row in rows.items():
        columns |= {f"{stage}_status": row.status, f"{stage}_reason": row.reason}
    return columns
