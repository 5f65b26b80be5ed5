"""The objective and the optimisers of a recipe."""

from collections.abc import Callable, Collection
from typing import Any, Literal

import torch

from pipeline_src.config import FinetuneConfig, PretrainConfig
from pipeline_src.config.heads import possible_shares
from pipeline_src.methods.avsiam.objective import AVSiamPretrain
from pipeline_src.methods.cav_mae.objective import CAVMAEPretrain
from pipeline_src.methods.common.classify import Classify
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.mavil.objective import MAViLPretrain
from pipeline_src.methods.objectives import TrainObjective
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.train.optim import layer_lr_factor, make_optimizer, parameter_groups


def build_objective(
    spec: TrainSpec,
    model: AudioVisualModel,
    task: Literal["multiclass", "multilabel"],
    teacher: AudioVisualModel | None = None,
    modalities: Collection[str] = ("audio", "video"),
) -> TrainObjective:
    """Model plus losses, as the module that the loop calls.

    Args:
        task: multiclass or multilabel; only fine-tuning looks at it.
        teacher: finished network that a second stage follows; frozen.
        modalities: what the clips have; fine-tuning trains the heads that these allow.
    """
    recipe = spec.recipe
    if isinstance(recipe, PretrainConfig):
        if teacher:
            return _mavil(model, recipe, teacher)
        return PRETRAIN_OBJECTIVES[spec.model.method](model, recipe)
    return Classify(
        model,
        task=task,
        label_smoothing=recipe.label_smoothing,
        modality_probs=possible_shares(recipe.modality_probs, modalities),
        all_heads=recipe.all_heads,
    )


def _shared_values(recipe: PretrainConfig) -> dict[str, Any]:
    """The keys that every pre-training objective takes under the configuration's own names."""
    names = (
        "contrast_direction",
        "contrast_scope",
        "contrast_weight",
        "temperature",
        "reconstruct_weight",
        "audio_mask",
    )
    return {name: getattr(recipe, name) for name in names}


def _avsiam(model: Any, recipe: PretrainConfig) -> AVSiamPretrain:
    return AVSiamPretrain(
        model,
        joint_step=recipe.joint_step,
        packed=recipe.pack_sequences,
        **_shared_values(recipe),
    )


def _cav_mae(model: Any, recipe: PretrainConfig) -> CAVMAEPretrain:
    return CAVMAEPretrain(model, **_shared_values(recipe))


def _mavil(model: Any, recipe: PretrainConfig, teacher: Any = None) -> MAViLPretrain:
    return MAViLPretrain(model, teacher=teacher, **dict(recipe.mavil), **_shared_values(recipe))


PRETRAIN_OBJECTIVES: dict[str, Callable[[Any, PretrainConfig], TrainObjective]] = {
    "avsiam": _avsiam,
    "cav_mae": _cav_mae,
    "mavil": _mavil,
    "diffmavil": _mavil,
}


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
