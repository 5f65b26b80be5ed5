"""The networks and recipes that are measured, by the name of a published comparison."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_steps.setting import SMALL, Setting
from benchmarks.timed_steps import Trainer
from benchmarks.train_step import released_loss
from benchmarks.variants import NUM_MEL_BINS
from pipeline_src.config import ModelConfig, PretrainConfig, read_config, resolve_run
from pipeline_src.methods.avsiam.network import AVSiam
from pipeline_src.methods.common.blocks import Block
from pipeline_src.train.measure import training_cost

EXPERIMENTS = Path(__file__).resolve().parents[2] / "config" / "experiments"
QUICK = {"size": "tiny", "img_size": 32, "target_length": 64}
# Name here -> experiment file and its run.
RUNS = {
    "avsiam_base": ("avsiam_ablations", "multi_ratio"),
    "cav_mae_base": ("cav_mae_vggsound", "cav_mae_base"),
    "avsiam_large": ("avsiam_ablations", "large_shared"),
    "avsiam_large_separate": ("avsiam_ablations", "large_separate"),
    "avsiam_base_fixed_25": ("avsiam_ablations", "fixed_25"),
}


def sections(name: str, *, quick: bool, **changes: Any) -> tuple[ModelConfig, PretrainConfig]:
    """Network with random weights, and recipe; ``changes`` are keys of ``pretrain``."""
    file, run_name = RUNS[name]
    run = resolve_run(read_config([EXPERIMENTS / f"{file}.yaml"]), run_name)
    model: dict[str, Any] = {"init": "random"}
    if quick:
        model |= {**QUICK, "overrides": run.model.overrides | SMALL}
    recipe = {"amp": not quick, **changes}
    return run.model.model_copy(update=model), run.pretrain.model_copy(update=recipe)


def count_flops(name: str, quick: bool) -> float:
    """Operations of a clip, forward and backward, nothing computed twice."""
    torch.set_num_threads(1)
    model, recipe = sections(name, quick=quick)
    return training_cost(model, recipe, num_mel_bins=NUM_MEL_BINS, num_classes=0).flops


class ReleasedOrder(Trainer):
    """The contrastive pass as the released code does it, group by group with its masks."""

    def loss(self, batch: dict[str, Tensor], plan: Any, step_pass: str) -> Tensor:
        """Of a pass, 0-d."""
        model = self.objective.model
        if step_pass != "contrast" or not isinstance(model, AVSiam):
            return super().loss(batch, plan, step_pass)
        ratios = self.recipe.contrast_ratios
        return released_loss(model, batch, ratios, F.scaled_dot_product_attention)


class GraphedBlocks(Trainer):
    """Compiled blocks that are replayed as CUDA graphs, for shapes that repeat."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for module in self.objective.model.modules():
            if isinstance(module, Block):
                module.compile(mode="reduce-overhead")


# Ways to carry out the same training: the class, and keys of ``pretrain``.
WAYS: dict[str, tuple[type[Trainer], dict[str, Any]]] = {
    "eager": (Trainer, {}),
    "packed": (Trainer, {"pack_sequences": "always"}),
    "group by group": (Trainer, {"pack_sequences": "never"}),
    "released order": (ReleasedOrder, {"pack_sequences": "never"}),
    "compiled": (Trainer, {"compile": True}),
    "CUDA graphs": (GraphedBlocks, {}),
    "checkpointed": (Trainer, {"activation_checkpointing": True}),
}


def trainer(setting: Setting, name: str, way: str) -> Trainer:
    """A network that takes steps; the one before it is freed."""
    kind, changes = WAYS[way]
    model, recipe = sections(name, quick=setting.quick, **changes)
    return setting.keep(f"{name}, {way}", lambda: kind(model, recipe, setting.device))
