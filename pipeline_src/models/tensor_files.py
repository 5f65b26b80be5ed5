"""Read tensors from files that others wrote, without running anything they hold."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline_src.errors import CheckpointError

WRAPPERS = ("model", "state_dict")  # keys that MAE and others keep the tensors below
PARALLEL_PREFIX = "module."  # of modules saved from inside (Distributed)DataParallel


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file or one that torch.save wrote.

    A wrapping dictionary and the prefix ``module.`` are taken off.

    Raises:
        CheckpointError: absent, truncated, holding code, or no dictionary of tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is no file; give a .pth, .pt, .bin or .safetensors file")
    state = _load(path)
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state:
        raise CheckpointError(
            f"{path} holds {type(state).__name__}, not a dictionary of tensors; save "
            "model.state_dict() instead"
        )
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: {key!r} is a {type(value).__name__}, not a tensor; save "
                "model.state_dict() alone"
            )
    return _without_prefix(state)


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} cannot be read as tensors alone: it is damaged, or holds code that would run "
            "on opening; fetch it again or ask for model.state_dict() alone "
            f"({str(error).splitlines()[0]})"
        ) from None
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be read: truncated or no file of tensors; fetch it again "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(key.startswith(PARALLEL_PREFIX) for key in state):
        return {key.removeprefix(PARALLEL_PREFIX): value for key, value in state.items()}
    return state
