"""The objective and the optimisers of a recipe."""

import inspect
from collections.abc import Collection
from typing import Literal

import torch

from pipeline_src.config import FinetuneConfig, PretrainConfig
from pipeline_src.config.heads import possible_shares
from pipeline_src.errors import ConfigError, did_you_mean
from pipeline_src.methods import find_method
from pipeline_src.methods.common.classify import Classify
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.objective import Objective
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.train.optim import layer_lr_factor, make_optimizer, parameter_groups


def build_objective(
    spec: TrainSpec,
    model: AudioVisualModel,
    task: Literal["multiclass", "multilabel"],
    teacher: AudioVisualModel | None = None,
    modalities: Collection[str] = ("audio", "video"),
) -> Objective:
    """Build model plus losses, the module that the loop calls.

    Args:
        task: multiclass or multilabel; only fine-tuning looks at it.
        teacher: finished network that a second stage follows; frozen.
        modalities: what the clips have; fine-tuning trains the heads that these allow.
    """
    recipe = spec.recipe
    if isinstance(recipe, PretrainConfig):
        return pretrain_objective(spec.model.method, model, recipe, teacher)
    return Classify(
        model,
        task=task,
        label_smoothing=recipe.label_smoothing,
        modality_probs=possible_shares(recipe.modality_probs, modalities),
        all_heads=recipe.all_heads,
    )


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


def build_optimizers(
    spec: TrainSpec, model: AudioVisualModel, passes: tuple[str, ...]
) -> dict[str, torch.optim.Optimizer]:
    """One optimiser per pass, each over all parameters, moments of its own (AVSiam, released)."""
    recipe = spec.recipe

    def factor(name: str) -> float:
        if not isinstance(recipe, FinetuneConfig):
            return 1.0
        return layer_lr_factor(
            model.layer_id(name),
            num_layers=model.config.depth,
            layer_decay=recipe.layer_decay,
            head=recipe.head_lr_factor,
            fusion=recipe.fusion_lr_factor,
        )

    return {
        step_pass: make_optimizer(
            parameter_groups(
                model.named_parameters(),
                factor,
                recipe.weight_decay,
                decays_all=recipe.optimizer == "adam",  # as released
            ),
            lr=recipe.lr,
            betas=(recipe.beta1, recipe.beta2),
            kind=recipe.optimizer,
        )
        for step_pass in passes
    }
