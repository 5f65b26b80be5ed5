"""done.json: says that a training has ended; the published checkpoint beside it is its result."""

import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pipeline_src.errors import CheckpointError
from pipeline_src.runs.checkpoint import (
    AVERAGE_FILE,
    Checkpoint,
    mean_weights,
    read_checkpoint,
)
from pipeline_src.runs.records import read_json_object
from pipeline_src.runs.spec import DONE_ADVICE, DONE_FILE, MODEL_FILE, STATE_FILE
from pipeline_src.runs.spec import PUBLISHED_FOLDER as PUBLISHED
from pipeline_src.system.atomic import file_sha256, fsync, write_json


def publish_checkpoint(run_dir: Path, checkpoint: Checkpoint) -> Checkpoint:
    """Put weights and state under a path that does not change; resuming needs the original.

    The folder is whole or absent. The weights are the mean that the checkpoint holds the sums of;
    else a second name of the same file where the file system allows it.
    """
    folder, temporary = run_dir / PUBLISHED, run_dir / f".{PUBLISHED}.{os.getpid()}.part"
    for left in run_dir.glob(f".{PUBLISHED}.*.part"):  # of a job that was killed
        shutil.rmtree(left)
    temporary.mkdir()
    hashes = {MODEL_FILE: _write_weights(checkpoint, temporary / MODEL_FILE)}
    state = {**checkpoint.state, "sha256": hashes}
    write_json(temporary / STATE_FILE, state)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    fsync(run_dir)
    return Checkpoint(folder, state)


def _write_weights(checkpoint: Checkpoint, path: Path) -> str:
    """Write the result's weights; return their sha256."""
    hashes = checkpoint.state["sha256"]
    if AVERAGE_FILE not in hashes:
        _link_or_copy(checkpoint.folder / MODEL_FILE, path)
        return hashes[MODEL_FILE]
    save_file(mean_weights(checkpoint), path)
    fsync(path)
    return file_sha256(path)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
        fsync(target)


def write_done(
    run_dir: Path,
    checkpoint: Checkpoint,
    last_row: dict[str, Any],
    cost: dict[str, float] | None,
) -> Path:
    """Publish ``checkpoint`` as the result of the run in ``run_dir``.

    Args:
        last_row: of metrics.jsonl. cost: counted operations, parameters and bytes of the whole
            training; None where nothing was trained here.
    """
    if checkpoint.folder != run_dir / PUBLISHED:
        (run_dir / DONE_FILE).unlink(missing_ok=True)  # it names the folder that is replaced now
        checkpoint = publish_checkpoint(run_dir, checkpoint)
    state = checkpoint.state
    path = run_dir / DONE_FILE
    write_json(
        path,
        {
            "checkpoint": PUBLISHED,
            "sha256": state["sha256"][MODEL_FILE],
            "step": state["step"],
            "samples_seen": state["samples_seen"],
            "seconds": state["seconds"],
            "last_row": last_row,
            "cost": cost,
            "fingerprint": state["fingerprint"],
            "config_sha256": state["config_sha256"],
            "data_sha256": state["data_sha256"],
            "seed": state["seed"],
            "precision": state.get("precision"),
            "git_commit": state["git_commit"],
            "versions": state["versions"],
        },
    )
    return path


def published(run_dir: Path, fingerprint: str) -> Checkpoint | None:
    """Return the whole result of a training of this fingerprint, if it has one.

    It stays the result where ``checkpoints``, which only resuming needs, are gone.
    """
    try:
        checkpoint = read_checkpoint(run_dir / PUBLISHED)
    except CheckpointError:
        return None
    return checkpoint if checkpoint.state.get("fingerprint") == fingerprint else None


def read_done(path: Path) -> Checkpoint:
    """Open the checkpoint that a done.json names.

    Raises:
        CheckpointError: no such training, or the checkpoint is not the one that was published.
    """
    advice = DONE_ADVICE if path.exists() else "run the training that writes it"
    done = read_json_object(path, {"checkpoint": str, "sha256": str}, advice)
    folder = path.parent / done["checkpoint"]
    checkpoint = read_checkpoint(folder, f"delete {path} and run the same command again")
    if checkpoint.state["sha256"][MODEL_FILE] != done["sha256"]:
        raise CheckpointError(
            f"{checkpoint.folder}: not the checkpoint that {path} was written for; {DONE_ADVICE}"
        )
    return checkpoint
