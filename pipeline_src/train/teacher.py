"""The finished network that a second stage of pre-training follows (MAViL, arXiv:2212.08071)."""

from pathlib import Path

from pipeline_src.errors import CheckpointError
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.runs.build import restore_model
from pipeline_src.runs.done import read_done
from pipeline_src.shards.shard_set import ShardSet


def load_teacher(
    done: Path | None, model: AudioVisualModel, shards: ShardSet
) -> AudioVisualModel | None:
    """Read the frozen network that a second stage follows; None where there is none.

    Args:
        done: done.json of the teacher's pre-training.

    Raises:
        CheckpointError: it sees other tokens or another log-mel scale than the network.
    """
    if done is None:
        return None
    checkpoint = read_done(done)
    teacher = restore_model(checkpoint)[0]
    for key in model.config.teacher_keys:
        theirs, own = getattr(teacher.config, key, None), getattr(model.config, key)
        if theirs != own:
            raise CheckpointError(
                f"{checkpoint.folder}: the teacher's {key} is {theirs}, the network's {own}; "
                "give both runs the same"
            )
    scale = (checkpoint.state["logmel_mean"], checkpoint.state["logmel_std"])
    if scale != (shards.logmel_mean, shards.logmel_std):
        raise CheckpointError(
            f"{checkpoint.folder}: the teacher knows log-mels of mean, std {scale}, these have "
            f"{(shards.logmel_mean, shards.logmel_std)}; pre-train both runs on the same data sets"
        )
    device = next(model.parameters()).device
    return teacher.requires_grad_(False).to(device)
