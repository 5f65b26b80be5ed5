"""The objective and the optimisers of a recipe."""

from typing import Literal

import torch

from pipeline_src.config import FinetuneConfig, PretrainConfig
from pipeline_src.models import AVSiam
from pipeline_src.objectives.classify import Classify
from pipeline_src.objectives.pretrain import AVSiamPretrain
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.train.optim import layer_lr_factor, make_optimizer, parameter_groups


def build_objective(
    spec: TrainSpec, model: AVSiam, task: Literal["multiclass", "multilabel"]
) -> AVSiamPretrain | Classify:
    """Model plus losses, as the module that the loop calls.

    Args:
        task: multiclass or multilabel; only fine-tuning looks at it.
    """
    recipe = spec.recipe
    if isinstance(recipe, PretrainConfig):
        return AVSiamPretrain(
            model,
            contrast_ratios=recipe.contrast_ratios,
            contrast_direction=recipe.contrast_direction,
            contrast_weight=recipe.contrast_weight,
            temperature=recipe.temperature,
            reconstruct_ratio=recipe.reconstruct_ratio,
            reconstruct_weight=recipe.reconstruct_weight,
            audio_mask=recipe.audio_mask,
            joint_step=recipe.joint_step,
        )
    return Classify(
        model,
        task=task,
        label_smoothing=recipe.label_smoothing,
        modality_probs=recipe.modality_probs,
        all_heads=recipe.all_heads,
    )


def build_optimizers(
    spec: TrainSpec, model: AVSiam, passes: tuple[str, ...]
) -> dict[str, torch.optim.Optimizer]:
    """One AdamW per pass, each over all parameters with moments of its own (AVSiam, released)."""
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
            parameter_groups(model.named_parameters(), factor, recipe.weight_decay),
            lr=recipe.lr,
            betas=(recipe.beta1, recipe.beta2),
        )
        for step_pass in passes
    }
