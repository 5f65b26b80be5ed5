"""Weights of a network that knows inputs of another length or size."""

import logging
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from pipeline_src.errors import CheckpointError
from pipeline_src.methods.common.config import NetworkConfig
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.pos_embed import resize_positions

logger = logging.getLogger(__name__)
FitPositions = Literal["refuse", "interpolate", "trim"]


def fit_to_inputs(
    weights: Mapping[str, Tensor],
    model: AudioVisualModel,
    start: NetworkConfig,
    how: FitPositions,
) -> dict[str, Tensor]:
    """Fit the positions among ``weights`` to the inputs of ``model``; the rest stays as it is.

    Computed positions become the model's own. Fitted positions are (1, L, D), L of the model;
    all other tensors keep their shapes.

    Args:
        start: the network that the weights are of.

    Raises:
        CheckpointError: ``how`` does not allow it.
    """
    grids = {
        "audio": (start.audio_token_grid, model.config.audio_token_grid),
        "video": (start.video_grid, model.config.video_grid),
    }
    computed = dict(model.named_buffers())
    fitted = dict(weights)
    for key, value in weights.items():
        grid, new_grid = grids["audio" if _is_of_audio(key) else "video"]
        if "pos_embed" not in key or grid == new_grid:
            continue
        if how == "refuse":
            raise CheckpointError(
                f"{key} knows {grid} tokens (rows, columns), the network has {new_grid}; give both "
                "the same target_length and img_size, or set model.fit_positions"
            )
        fitted[key] = computed.get(key, resize_positions(value, grid, new_grid, how))
        logger.info("%s: %s positions made %s (%s)", key, grid, new_grid, how)
    return fitted


def _is_of_audio(key: str) -> bool:
    return key.startswith(("audio.", "decoder_a.")) or key.endswith("_a")
