"""Whether log-mels are what a checkpoint has learnt from: their statistics and their computation.

A training, also one that starts from a checkpoint, normalises with its own clips' mean and standard
deviation; an evaluation with those of the checkpoint. Published AST figures moved by points of mAP
where the two differed (ast issues 85 and 108: -4.27/4.57 against -3.54/3.42).
"""

import logging
from collections.abc import Iterator
from typing import Literal

from pipeline_src.runs.checkpoint import Checkpoint
from pipeline_src.shards.shard_set import ShardSet

logger = logging.getLogger(__name__)
TOLERANCE = 0.1  # of the checkpoint's standard deviation
USED = {
    "train": "the training normalises with the clips' own",
    "evaluate": "the evaluation normalises with the checkpoint's",
}


def warn_of_differences(
    checkpoint: Checkpoint, shards: ShardSet, use: Literal["train", "evaluate"]
) -> list[str]:
    """Log and return a sentence for each way in which the clips differ from the checkpoint's."""
    found = list(_differences(checkpoint, shards, use))
    for text in found:
        logger.warning("%s: %s", checkpoint.folder, text)
    return found


def _differences(
    checkpoint: Checkpoint, shards: ShardSet, use: Literal["train", "evaluate"]
) -> Iterator[str]:
    mean, std = checkpoint.state["logmel_mean"], checkpoint.state["logmel_std"]
    distance = max(abs(shards.logmel_mean - mean), abs(shards.logmel_std - std))
    if distance > TOLERANCE * std:
        yield (
            f"learnt log-mels of mean {mean:.2f} and std {std:.2f}, these clips have "
            f"{shards.logmel_mean:.2f} and {shards.logmel_std:.2f}; {USED[use]}. Other recordings "
            "may well differ; the same ones do not: then compare level, resampling and the section "
            "audio, or convert again with the right --logmel-mean and --logmel-std"
        )
    known = checkpoint.state.get("front_end") or {}  # converted ones do not say
    for key, value in known.items():
        if shards.front_end and shards.front_end.get(key) != value:
            yield (
                f"learnt log-mels with {key}={value}, those of these clips were computed with "
                f"{shards.front_end.get(key)}; set audio (or media.sample_rate_hz) to the "
                "checkpoint's and run again"
            )
