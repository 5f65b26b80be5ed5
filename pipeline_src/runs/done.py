"""done.json: says that a training has ended and which checkpoint is its result."""

import json
from pathlib import Path
from typing import Any

from pipeline_src.atomic import write_json
from pipeline_src.errors import CheckpointError
from pipeline_src.runs.checkpoint import Checkpoint, read_checkpoint
from pipeline_src.runs.spec import DONE_FILE


def write_done(run_dir: Path, checkpoint: Checkpoint, last_row: dict[str, Any]) -> Path:
    """Publish ``checkpoint`` as the result of the run in ``run_dir``."""
    state = checkpoint.state
    path = run_dir / DONE_FILE
    write_json(
        path,
        {
            "checkpoint": str(checkpoint.folder.relative_to(run_dir)),
            "sha256": state["sha256"]["model.safetensors"],
            "step": state["step"],
            "samples_seen": state["samples_seen"],
            "seconds": state["seconds"],
            "last_row": last_row,
            "fingerprint": state["fingerprint"],
            "git_commit": state["git_commit"],
            "versions": state["versions"],
        },
    )
    return path


def read_done(path: Path) -> Checkpoint:
    """Open the checkpoint that a done.json names.

    Raises:
        CheckpointError: no such training, or the checkpoint is not the one that was published.
    """
    try:
        done = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}; run the training that writes it") from error
    checkpoint = read_checkpoint(path.parent / done["checkpoint"])
    if checkpoint.state["sha256"]["model.safetensors"] != done["sha256"]:
        raise CheckpointError(
            f"{checkpoint.folder}: not the checkpoint that {path} was written for"
        )
    return checkpoint
