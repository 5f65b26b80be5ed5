"""The manifest that every stage leaves for a chunk: the ok clips, the dropped ones and the reasons.

The next stage reads the manifest and nothing else; the ledger beside it has one row for every clip.
The keys ``lost`` and ``origin`` of the file are the fields ``dropped`` and ``input_hash``.
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline_src.errors import ManifestError
from pipeline_src.manifest.ledger import LedgerRow, count_status, describe_losses, write_ledger
from pipeline_src.manifest.schema import CHUNKS, check_json, read_json
from pipeline_src.system.atomic import file_sha256, write_json

logger = logging.getLogger(__name__)
KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,120}")
KEY_PREFIX_CHARS = 60
KEY_HASH_CHARS = 10

Clip = dict[str, Any]


@dataclass(frozen=True)
class ChunkId:
    """Which chunk a manifest is about."""

    dataset: str
    split: str
    chunk: str

    def __str__(self) -> str:
        return f"{self.dataset}/{self.split}/{self.chunk}"


@dataclass(frozen=True)
class BulkFile:
    """A large file beside a manifest, named relative to the manifest's folder.

    No rule declares it: Snakemake deletes declared outputs before a job and compares checksums
    only of small files.
    """

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ChunkManifest:
    """State of one chunk after one stage.

    Args:
        settings: what the bulk files depend on and later stages must know, e.g. sample_rate_hz.
        clips: ok clips in list order; each has clip_id, key, labels and what the next stage needs.
        dropped: clip_id and reason of each clip that failed, here or earlier, in list order.
        input_hash: of what it was made from, see ``manifest.input_hash``.
        extra: further top-level entries of one stage.
    """

    stage: str
    id: ChunkId
    version: int
    num_in: int
    tar: BulkFile | None
    settings: dict[str, Any]
    clips: list[Clip]
    dropped: list[dict[str, str]]
    input_hash: str
    extra: dict[str, Any] = field(default_factory=dict)


def clip_key(clip_id: str) -> str:
    """Make a name that is safe in tars and file systems: the clip_id itself where possible.

    webdataset splits names at the first dot, so dots are replaced too; a hash keeps names apart.
    """
    if KEY_PATTERN.fullmatch(clip_id):
        return clip_id
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", clip_id)[:KEY_PREFIX_CHARS]
    digest = hashlib.sha256(clip_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe}-{digest[:KEY_HASH_CHARS]}"


def write_chunk(
    path: Path, ledger_path: Path, manifest: ChunkManifest, rows: Sequence[LedgerRow]
) -> None:
    """Write ledger, then manifest, and log the losses.

    Raises:
        AssertionError: the rows do not add up, or are not those of the manifest.
    """
    counts = count_status(rows)
    ok_ids = [row.clip_id for row in rows if row.status == "ok"]
    if ok_ids != [clip["clip_id"] for clip in manifest.clips]:
        raise AssertionError(f"{path}: the ledger's ok clips are not the manifest's")
    write_ledger(ledger_path, rows, manifest.num_in)
    head = {
        "stage": manifest.stage,
        **asdict(manifest.id),
        "version": manifest.version,
        "origin": manifest.input_hash,
        "num_in": manifest.num_in,
        **{f"num_{status}": count for status, count in counts.items()},
        "tar": asdict(manifest.tar) if manifest.tar else None,
        "settings": manifest.settings,
    }
    body = {"clips": manifest.clips, "lost": manifest.dropped}
    write_json(path, {**head, **manifest.extra, **body}, indent=None)
    logger.info("%s %s: %s", manifest.stage, manifest.id, describe_losses(rows, ledger_path))


HEAD_KEYS = ("stage", "dataset", "split", "chunk", "version", "num_in", "num_ok", "num_skipped")
KNOWN_KEYS = {*HEAD_KEYS, "origin", "num_failed", "tar", "settings", "clips", "lost"}


def read_chunk(path: Path, stage: str) -> ChunkManifest:
    """Read a manifest back and check that it is of ``stage`` and that its counts add up.

    Raises:
        ManifestError: unreadable, of another stage, or inconsistent; delete it and run again.
    """
    value = read_json(path, "chunk manifest")
    missing = sorted(KNOWN_KEYS - value.keys()) if isinstance(value, dict) else ["all"]
    if missing or value["stage"] != stage:
        raise ManifestError(
            f"{path}: not a {stage} manifest (missing keys: {missing}); delete it and run again"
        )
    check_json(CHUNKS[stage], value, path, f"{stage} manifest")
    num_dropped = value["num_skipped"] + value["num_failed"]
    if (len(value["clips"]), len(value["lost"])) != (value["num_ok"], num_dropped) or value[
        "num_in"
    ] != value["num_ok"] + num_dropped:
        raise ManifestError(f"{path}: clip counts do not add up; delete it and run {stage} again")
    return ChunkManifest(
        stage=stage,
        id=ChunkId(value["dataset"], value["split"], value["chunk"]),
        version=value["version"],
        num_in=value["num_in"],
        tar=BulkFile(**value["tar"]) if value["tar"] else None,
        settings=value["settings"],
        clips=value["clips"],
        dropped=value["lost"],
        input_hash=value["origin"],
        extra={key: value[key] for key in value.keys() - KNOWN_KEYS},
    )


def describe_bulk(path: Path) -> BulkFile:
    """Return name, size and sha256 of a bulk file."""
    return BulkFile(path.name, path.stat().st_size, file_sha256(path))


def bulk_path(manifest_path: Path, manifest: ChunkManifest) -> Path:
    """Return the tar beside a manifest after checking that it has its recorded size.

    Raises:
        ManifestError: the manifest names no tar, or the tar is missing or of another size.
    """
    if manifest.tar is None:
        raise ManifestError(f"{manifest_path}: a {manifest.stage} manifest names no tar")
    path = manifest_path.parent / manifest.tar.file
    actual_bytes = path.stat().st_size if path.is_file() else -1
    if actual_bytes != manifest.tar.bytes:
        raise ManifestError(
            f"{path}: {'missing' if actual_bytes < 0 else f'{actual_bytes} bytes'}, but "
            f"{manifest_path.name} says {manifest.tar.bytes}; delete the manifest and run again"
        )
    return path


def merge_rows(
    order: Sequence[str], dropped: Sequence[dict[str, str]], new: Sequence[LedgerRow]
) -> tuple[list[LedgerRow], list[dict[str, str]]]:
    """Combine clips dropped before this stage (as skipped) with this stage's own rows.

    Args:
        order: clip ids of the clips that reached this stage, in list order.
        dropped: the earlier manifest's ``dropped``.
        new: one row per id of ``order``.
    Returns:
        All rows (this stage's in order, then the skipped), and the new ``dropped`` list.
    Raises:
        AssertionError: ``new`` has other ids or another order.
    """
    if [row.clip_id for row in new] != list(order):
        raise AssertionError("a stage must give one row per clip, in order")
    skipped = [
        LedgerRow(item["clip_id"], "skipped", item["reason"], attempts=0) for item in dropped
    ]
    failed = [{"clip_id": row.clip_id, "reason": row.reason} for row in new if row.status != "ok"]
    return [*new, *skipped], [*dropped, *failed]
