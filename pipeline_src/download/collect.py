"""One parquet file of all download ledgers of a data set: what is there, what is not, and why."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_src.atomic import atomic_path
from pipeline_src.download.rows import FetchRow
from pipeline_src.ledger import TRANSIENT_REASONS, read_ledger

SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("chunk", pa.string()),
        ("clip_id", pa.string()),
        ("source", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("is_transient", pa.bool_()),
        ("attempts", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("seconds", pa.float64()),
        ("finished", pa.timestamp("s", tz="UTC")),
        ("tool", pa.string()),
        ("detail", pa.string()),
    ]
)


def collect_ledgers(manifests: Sequence[Path], path: Path) -> None:
    """Write the ledgers beside ``manifests`` to ``path``, a row group per chunk: bounded memory."""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        for manifest in manifests:
            rows = read_ledger(manifest.with_suffix(".ledger.csv"), FetchRow)
            writer.write_table(_table(rows, manifest.parent.name, manifest.stem))


def _table(rows: Sequence[FetchRow], split: str, chunk: str) -> pa.Table:
    columns = {
        "split": [split] * len(rows),
        "chunk": [chunk] * len(rows),
        "is_transient": [row.reason in TRANSIENT_REASONS for row in rows],
        "finished": pa.array([row.finished[:19] or None for row in rows]).cast(pa.timestamp("s")),
    }
    for name in set(SCHEMA.names) - columns.keys():
        columns[name] = [getattr(row, name) for row in rows]
    return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)
