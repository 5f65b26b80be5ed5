"""The first dropped clip of a chunk, with the row of the ledger that says why."""

from pathlib import Path

from pipeline_src.manifest.collect import STAGES
from pipeline_src.manifest.ledger import LEDGER_SUFFIX, read_ledger


def first_loss(manifest_path: Path) -> str:
    """Return ``clip, reason, detail`` and the ledger's path; empty where nothing is lost.

    Args:
        manifest_path: of the chunk in its last stage; the ledgers of earlier ones lie in folders
            beside that stage's.
    """
    dataset, (split, name) = manifest_path.parents[2], manifest_path.parts[-2:]
    for stage in STAGES:
        path = (dataset / stage / split / name).with_suffix(LEDGER_SUFFIX)
        if not path.is_file():
            continue
        for row in read_ledger(path):
            if row.status == "failed":
                detail = f": {row.detail}" if row.detail else ""
                return f"{row.clip_id!r}, {row.reason}{detail} ({path})"
    return ""
