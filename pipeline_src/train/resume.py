"""Where a training starts: its own newest checkpoint, an earlier training's result, or nothing."""

import logging
import time
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from pipeline_src.methods.common.input_lengths import FitPositions, fit_to_inputs
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.runs.build import trained_network_config
from pipeline_src.runs.checkpoint import (
    Checkpoint,
    load_matching,
    newest_checkpoint,
    read_checkpoint,
)
from pipeline_src.runs.done import read_done
from pipeline_src.runs.normalisation import warn_of_differences
from pipeline_src.runs.spec import step_folder
from pipeline_src.shards.shard_set import ShardSet
from pipeline_src.train.distributed import Ranks, from_main

logger = logging.getLogger(__name__)
FOLDER_TIMEOUT_SECONDS = 60.0


def resume_point(parent: Path, fingerprint: str, ranks: Ranks) -> Checkpoint | None:
    """Find the newest checkpoint of a configuration, the same on every rank.

    Rank 0 chooses: on a network file system the ranks may see different folders for a while.
    """
    found = newest_checkpoint(parent, fingerprint) if ranks.is_main else None
    step = from_main(found.step if found else 0, ranks)
    if ranks.is_main or step == 0:
        return found
    folder = parent / step_folder(step)
    deadline = time.monotonic() + FOLDER_TIMEOUT_SECONDS
    while not _is_listed(folder) and time.monotonic() < deadline:
        time.sleep(1)
    advice = f"rank 0 sees it: is {parent} on a file system of all nodes?"
    return read_checkpoint(folder, advice, is_checked=True)


def _is_listed(folder: Path) -> bool:
    """Look for a folder in a new listing of the one around it, which may not be seen yet either."""
    with suppress(OSError):
        return folder in folder.parent.iterdir()
    return False


def start_from(
    done: Path, model: AudioVisualModel, shards: ShardSet, fit_positions: FitPositions = "refuse"
) -> None:
    """Fill ``model`` with the weights of a finished training; what only one has stays or is left.

    Heads are taken over only where they mean the same classes. Clips whose log-mel differs from
    what the weights have learnt are worth a warning.

    Args:
        fit_positions: what happens to positions of inputs of another length.

    Raises:
        CheckpointError: it does not fit the network.
    """
    checkpoint = read_done(done)
    warn_of_differences(checkpoint, shards, "train")
    foreign = _foreign_heads(checkpoint, model, shards)
    start = trained_network_config(checkpoint)

    def adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors that are taken over, positions in the shapes of the network."""
        kept = {k: v for k, v in tensors.items() if not (foreign and k.startswith(foreign))}
        return fit_to_inputs(kept, model, start, fit_positions)

    missing = load_matching(
        checkpoint,
        model,
        allowed_missing=model.head_prefixes,
        allowed_unused=model.pretrain_prefixes,
        adapt=adapt,
    )
    own = tuple(model.state_dict())
    left = [p for p in model.pretrain_prefixes if not any(key.startswith(p) for key in own)]
    logger.info(
        "started from %s; new: %s; left behind: %s",
        checkpoint.folder,
        ", ".join(missing) or "nothing",
        ", ".join(f"{prefix}*" for prefix in (*left, *foreign)) or "nothing",
    )


def _foreign_heads(
    checkpoint: Checkpoint, model: AudioVisualModel, shards: ShardSet
) -> tuple[str, ...]:
    """Return the prefixes of the checkpoint's heads, if any mean other classes than ours."""
    theirs, ours = checkpoint.state["class_names"], list(shards.class_names)
    num_outputs = model.config.num_classes
    if not theirs or (theirs == ours and len(theirs) == num_outputs):
        return ()
    logger.warning(
        "%s: its heads were trained for %d other classes (%s ...); the heads start anew for %d",
        checkpoint.folder,
        len(theirs),
        ", ".join(theirs[:3]),
        num_outputs,
    )
    return model.head_prefixes
