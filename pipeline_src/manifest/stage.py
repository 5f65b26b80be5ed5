"""What the stages after the download share: write each clip's result, publish the chunk."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_src.errors import MediaError
from pipeline_src.manifest.chunks import (
    ChunkManifest,
    Clip,
    describe_bulk,
    merge_rows,
    write_chunk,
)
from pipeline_src.manifest.ledger import LedgerRow
from pipeline_src.manifest.tars import build_tar


class Made(NamedTuple):
    """What a stage made of one clip.

    Args:
        entry: of the manifest. members: name and content of each file of the tar, in order.
        detail: for the ledger: what the clip's flags amount to.
    """

    entry: Clip
    members: Iterable[tuple[str, bytes]]
    detail: str = ""


def write_results(
    tar_path: Path, results: Iterable[tuple[Clip, Made | MediaError]]
) -> tuple[list[LedgerRow], list[Clip]]:
    """Write a stage's tar, one clip after the other.

    Returns:
        A row per clip, in order, and the manifest entries of those that are ok.
    """
    rows: list[LedgerRow] = []
    clips: list[Clip] = []
    with build_tar(tar_path) as tar:
        for clip, made in results:
            if isinstance(made, MediaError):
                rows.append(LedgerRow(clip["clip_id"], "failed", made.reason, detail=made.detail))
                continue
            for name, data in made.members:
                tar.add(name, data)
            flags = ";".join(made.entry["flags"])
            rows.append(LedgerRow(clip["clip_id"], "ok", flags=flags, detail=made.detail))
            clips.append(made.entry)
    return rows, clips


def publish_chunk(
    stage: str,
    source: ChunkManifest,
    rows: Sequence[LedgerRow],
    clips: list[Clip],
    *,
    manifest_path: Path,
    ledger_path: Path,
    tar_path: Path | None = None,
    settings: dict[str, Any],
    version: int,
    input_hash: str,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write ledger and manifest of a stage, with the clips that earlier stages dropped.

    Args:
        source: the manifest of the stage before.
        rows: one per clip of ``source``, in order. clips: the entries of those that are ok.
    """
    order = [clip["clip_id"] for clip in source.clips]
    all_rows, dropped = merge_rows(order, source.dropped, rows)
    manifest = ChunkManifest(
        stage=stage,
        id=source.id,
        version=version,
        num_in=source.num_in,
        tar=describe_bulk(tar_path) if tar_path else None,
        settings=settings,
        clips=clips,
        dropped=dropped,
        input_hash=input_hash,
        extra=extra or {},
    )
    write_chunk(manifest_path, ledger_path, manifest, all_rows)
