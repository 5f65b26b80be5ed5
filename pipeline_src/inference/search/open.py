"""The checkpoint that an index was made by, opened again."""

from pathlib import Path

from pipeline_src.errors import CheckpointError
from pipeline_src.inference.model import Model, load
from pipeline_src.inference.search.store import ClipIndex


def open_indexed_model(index: ClipIndex, device: str = "") -> Model:
    """Load the checkpoint that an index names.

    Raises:
        CheckpointError: it is gone, or other weights are there.
    """
    folder = Path(index.about["checkpoint"])
    model = load(folder, device=device, num_frames=index.about["num_frames"])
    if model.sha256 != index.about["checkpoint_sha256"]:
        raise CheckpointError(
            f"{folder}: other weights than those that made {index.folder}; build the index again"
        )
    return model
