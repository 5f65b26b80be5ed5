"""The objective of a pre-training, built from the keys of its recipe."""

import inspect

from pipeline_src.config import PretrainConfig
from pipeline_src.errors import ConfigError, did_you_mean
from pipeline_src.methods import find_method
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.objective import Objective


def pretrain_objective(
    method: str,
    model: AudioVisualModel,
    recipe: PretrainConfig,
    teacher: AudioVisualModel | None = None,
) -> Objective:
    """Build a method's objective; its keyword arguments name the keys that it takes.

    They are keys of ``pretrain`` or of ``pretrain.mavil``, and ``teacher``.

    Raises:
        ConfigError: there is no such method, or its objective asks for what no key gives.
    """
    objective = find_method(method).load_objective()
    given = {**dict(recipe.mavil), **dict(recipe), "teacher": teacher}
    _, *names = inspect.signature(objective).parameters  # the first is the network
    if unknown := [name for name in names if name not in given]:
        raise ConfigError(
            f"{objective.__name__} takes {', '.join(unknown)}: no key of pretrain or pretrain.mavil"
            f"{did_you_mean(unknown[0], given)}"
        )
    return objective(model, **{name: given[name] for name in names})
