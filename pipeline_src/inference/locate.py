"""From what a person names to a checkpoint: a run's folder, a checkpoint's, or an exported one."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline_src.errors import CheckpointError
from pipeline_src.runs.checkpoint import MODEL_FILE, Checkpoint, read_checkpoint
from pipeline_src.runs.done import read_done
from pipeline_src.runs.records import read_json_object
from pipeline_src.runs.spec import (
    CHECKPOINTS_FOLDER,
    DONE_FILE,
    PUBLISHED_FOLDER,
    STATE_FILE,
    SUPERSEDED_FOLDER,
)
from pipeline_src.system.atomic import file_sha256

CONFIG_FILE = "config.json"  # of an exported folder
PREPROCESSOR_FILE = "preprocessor_config.json"
FORMAT_KEY = "av_pipeline_format"
MAX_LISTED = 10
ADVICE = "export it again, or fetch the folder again"


def locate(folder: Path) -> Checkpoint:
    """Return the checkpoint of a folder.

    Args:
        folder: of a run's training (with done.json), of a checkpoint (state.json), of a run with
            one training, or what ``av-pipeline export`` wrote (config.json).
    Raises:
        CheckpointError: it is none of these, holds several, or is damaged.
    """
    if (folder / DONE_FILE).is_file():
        return read_done(folder / DONE_FILE)
    if (folder / STATE_FILE).is_file():
        return read_checkpoint(folder, "train or convert it again")
    if (folder / CONFIG_FILE).is_file():
        return _read_exported(folder)
    below = _trainings_below(folder)
    if not below and is_export(folder):
        raise CheckpointError(f"{folder}: an export that did not end; {ADVICE}")
    if not below:
        raise CheckpointError(
            f"{folder}: no checkpoint; name the folder of a training "
            f"(with {DONE_FILE}), of a checkpoint (with {STATE_FILE}) or of an export "
            f"(with {CONFIG_FILE})"
        )
    if len(below) > 1:
        listed = ", ".join(map(str, below[:MAX_LISTED]))
        if len(below) > MAX_LISTED:
            listed += f" ... ({len(below)})"
        raise CheckpointError(f"{folder}: holds several trainings, name one of {listed}")
    return read_done(below[0] / DONE_FILE)


def _trainings_below(folder: Path) -> list[Path]:
    """List the trainings in a folder of results, of a run, or of its fine-tunings.

    Where one of a run is found, so are the others: none is the only one for want of looking deeper.
    """
    depths = ("*/*/*", "*/*", "*")
    found = [path for depth in depths for path in folder.glob(f"{depth}/{DONE_FILE}")]
    runs = {run for path in found for run in path.parents[1:3]}
    runs = {run for run in runs if run.is_relative_to(folder)}
    found += [path for run in runs for path in run.glob(f"*/{DONE_FILE}")]
    found += [path for run in runs for path in run.glob(f"finetune/*/{DONE_FILE}")]
    parts = {path: path.relative_to(folder).parts for path in found}
    return sorted({path.parent for path in found if SUPERSEDED_FOLDER not in parts[path]})


def is_export(folder: Path) -> bool:
    """Return whether ``av-pipeline export`` wrote a folder, to its end or not; or damaged since."""
    marks = {CONFIG_FILE: {FORMAT_KEY: int}, PREPROCESSOR_FILE: {"media": dict, "front_end": dict}}
    for name, keys in marks.items():
        with suppress(CheckpointError):
            read_json_object(folder / name, keys, ADVICE)
            return True
    return False


def training_folder(checkpoint: Checkpoint) -> Path:
    """Return the folder of the training that a checkpoint lies in."""
    folder = checkpoint.folder
    if folder.name == PUBLISHED_FOLDER:
        return folder.parent
    return folder.parent.parent if folder.parent.name == CHECKPOINTS_FOLDER else folder


def _read_exported(folder: Path) -> Checkpoint:
    """Return an exported folder as the checkpoint that it was made from.

    Raises:
        CheckpointError: not one of ours, or the weights are not those that it names.
    """
    keys = {FORMAT_KEY: int, "step": int, "fingerprint": str, "sha256": dict, "spec": dict}
    config = read_json_object(folder / CONFIG_FILE, keys, ADVICE)
    preprocessor = read_json_object(
        folder / PREPROCESSOR_FILE, {"media": dict, "front_end": dict}, ADVICE
    )
    state: dict[str, Any] = {**config, **preprocessor}
    weights = folder / MODEL_FILE
    if not weights.is_file() or file_sha256(weights) != state["sha256"].get(MODEL_FILE):
        raise CheckpointError(f"{weights}: missing or damaged; {ADVICE}")
    return Checkpoint(folder, state)
