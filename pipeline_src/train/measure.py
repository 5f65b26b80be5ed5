"""Parameters, operations and memory of one training, counted on shapes.

The real network and objective run on tensors that have shapes but no values: floating point
operations of matrix products (a multiply-add is two; other operations are not counted), and the
bytes that a forward pass keeps for its backward pass, in fp32.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline_src.config import FinetuneConfig, ModelConfig, PretrainConfig
from pipeline_src.methods import NetworkConfig
from pipeline_src.methods.common.objective import Objective
from pipeline_src.runs.build import build_model
from pipeline_src.train.flops import PartCounter, network_parts
from pipeline_src.train.task import make_task

# Weight, gradient and two moments per optimiser, in fp32.
BYTES_PER_VALUE = 4


@dataclass
class Cost:
    """One training. Operations are per clip; components are the network's own parts.

    ``activation_bytes``: of one of ``batch_size`` clips in the largest step; a batch that grows
    beyond them counts in full.
    """

    run: str
    stage: str
    model: str
    parameters: dict[str, int] = field(default_factory=dict)
    forward_flops: dict[str, float] = field(default_factory=dict)
    backward_flops: dict[str, float] = field(default_factory=dict)
    activation_bytes: float = 0.0
    state_bytes: float = 0.0
    epochs: float = 0.0

    @property
    def flops(self) -> float:
        """Operations of a clip in one step, forward and backward."""
        return sum(self.forward_flops.values()) + sum(self.backward_flops.values())

    @property
    def num_parameters(self) -> int:
        """Parameters of the whole network, frozen ones too."""
        return sum(self.parameters.values())

    def memory_bytes(self, num_clips: int) -> float:
        """Sum weights, gradients, moments and activations of ``num_clips`` clips on one device."""
        return self.state_bytes + num_clips * self.activation_bytes


def cost_record(
    model: ModelConfig, recipe: PretrainConfig | FinetuneConfig, state: Mapping[str, Any]
) -> dict[str, float]:
    """Count what done.json keeps of a training's cost, so that its readers need no torch.

    Call it outside a process group: the objective would wait for the other ranks.

    Args:
        state: state.json of the last checkpoint.
    """
    cost = training_cost(
        model,
        recipe,
        num_mel_bins=state["num_mel_bins"],
        num_classes=len(state["class_names"]),
        modalities=state["modalities"],
    )
    return {
        "parameters": cost.num_parameters,
        "flops_per_clip": cost.flops,
        "flops": cost.flops * state["samples_seen"],
        "memory_bytes": cost.memory_bytes(recipe.batch_size),
    }


def training_cost(
    model_config: ModelConfig,
    recipe: PretrainConfig | FinetuneConfig,
    *,
    num_mel_bins: int,
    num_classes: int,
    modalities: Collection[str] = ("audio", "video"),
    run: str = "",
) -> Cost:
    """Measure one training on shapes alone.

    Args:
        num_classes: outputs of the heads; 0 for pre-training. modalities: what the clips have.
        run: name of the row in a table.
    """
    task = make_task(model_config, recipe)
    num_clips = task.sample_size
    shapes = FakeTensorMode(allow_non_fake_inputs=True)
    with shapes:
        model = build_model(
            model_config.model_copy(update={"init": "random"}),
            num_classes=num_classes,
            num_mel_bins=num_mel_bins,
            num_frames=recipe.num_frames,
            seed=0,
        )
        batch = _batch(model.config, num_clips, task.num_groups(model.config))
    teacher = model if model.config.follows_teacher else None  # costs what one of its shape would
    objective = task.objective(model, "multiclass", teacher, modalities)
    cost = Cost(run, task.stage, model_config.name, epochs=recipe.epochs)
    cost.parameters = _count_parameters(model)
    num_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    cost.state_bytes = BYTES_PER_VALUE * (
        cost.num_parameters + num_trained * (1 + 2 * len(objective.passes))
    )
    # Outside of shapes: a plan is numbers.
    kinds = task.step_kinds(objective, num_clips, num_mel_bins, modalities)
    with shapes:
        for share, _, plan in kinds:
            for step_pass in objective.passes:
                counter = _count_flops(objective, batch, plan, step_pass)
                _add(cost.forward_flops, counter.forward, share / num_clips)
                _add(cost.backward_flops, counter.backward, share / num_clips)
        model.set_grad_checkpointing(recipe.activation_checkpointing)  # what it repeats is not work
        for _, growth, plan in kinds:
            for step_pass in objective.passes:
                kept = growth * _count_activations(objective, batch, plan, step_pass) / num_clips
                cost.activation_bytes = max(cost.activation_bytes, kept)
    return cost


def _batch(network: NetworkConfig, num_clips: int, num_groups: int) -> dict[str, Tensor]:
    """Make clips of zeros as a training shows them.

    Returns:
        "logmel" (B, T, M) or (B, G, T, M), "frames" (B, F, 3, H, W), "targets" (B, C).
    """
    segments = (num_groups,) if network.clip_length and num_groups > 1 else ()
    logmel = (num_clips, *segments, network.target_length, network.num_mel_bins)
    num_frames = num_groups * network.num_frames
    return {
        "logmel": torch.zeros(logmel),
        "frames": torch.zeros(num_clips, num_frames, 3, network.img_size, network.img_size),
        "targets": torch.zeros(num_clips, max(1, network.num_classes)),
    }


def _count_parameters(model: nn.Module) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def _count_flops(
    objective: Objective, batch: dict[str, Tensor], plan: Any, step_pass: str
) -> PartCounter:
    """Count operations of a batch by part of the network, forward and backward."""
    # Attention as plain matrix products is what the counter knows on every device.
    counter = PartCounter(network_parts(objective.model))
    with sdpa_kernel(SDPBackend.MATH), counter:
        objective(batch, plan, step_pass)["loss"].backward()
    return counter


def _count_activations(
    objective: Objective, batch: dict[str, Tensor], plan: Any, step_pass: str
) -> float:
    """Count bytes that the forward pass keeps for the backward pass, parameters left out."""
    kept: dict[int, Tensor] = {}
    known = {p.untyped_storage()._cdata for p in objective.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        """Note a tensor of any shape and return it as it is."""
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = objective(batch, plan, step_pass)["loss"]
    total = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in known)
    del loss  # lived until here, so that no storage was used twice
    return float(total)


def _add(sums: dict[str, float], counts: Mapping[str, float], weight: float) -> None:
    for part, count in counts.items():
        sums[part] = sums.get(part, 0.0) + count * weight
