"""What a training costs before it runs: ``python -m pipeline_src.train.cost <config.yaml...>``.

Counts on the real network and objective with tensors that have shapes but no values: floating
point operations of matrix products (a multiply-add is two; other operations are not counted), and
the bytes that a forward pass keeps for its backward pass, in fp32. GPU hours follow from a peak
rate and an assumed utilisation.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline_src.config import Config, FinetuneConfig, RunConfig, load_config, resolve_run
from pipeline_src.config.load import merge
from pipeline_src.errors import ConfigError, PipelineError
from pipeline_src.models.base import HEADS
from pipeline_src.objectives import Classify, TrainObjective
from pipeline_src.objectives.classify import ClassifyPlan
from pipeline_src.runs.build import build_model
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.train.flops import PartCounter, network_parts
from pipeline_src.train.objective import build_objective

# Clips that were alive when the published models were trained (training logs of CAV-MAE).
NUM_CLIPS = {"audioset_2m": 1_772_023, "audioset_20k": 18_691, "vggsound": 183_727}
# Dense half-precision matrix products per second, by the makers' data sheets.
PEAK_FLOPS = {"v100": 125e12, "a100": 312e12, "h100": 989e12}
NUM_CLASSES = {"audioset_2m": 527, "audioset_20k": 527, "vggsound": 309}
# Weight, gradient and two moments per optimiser, in fp32.
BYTES_PER_VALUE = 4
SMALLEST_SHOWN = 0.01


@dataclass
class Cost:
    """One training. Operations are per clip; components are the network's own parts."""

    run: str
    stage: str
    model: str
    parameters: dict[str, int] = field(default_factory=dict)
    forward_flops: dict[str, float] = field(default_factory=dict)
    backward_flops: dict[str, float] = field(default_factory=dict)
    activation_bytes: float = 0.0
    state_bytes: float = 0.0
    epochs: float = 0.0
    gpu_hours: float = 0.0

    @property
    def flops(self) -> float:
        """Operations of a clip in one step, forward and backward."""
        return sum(self.forward_flops.values()) + sum(self.backward_flops.values())


def training_cost(run: str, spec: TrainSpec, *, num_mel_bins: int, num_classes: int) -> Cost:
    """Measure one training on shapes alone.

    Args:
        num_classes: outputs of the heads; 0 for pre-training.
    """
    recipe, num_clips = spec.recipe, _sample_size(spec)
    shapes = FakeTensorMode(allow_non_fake_inputs=True)
    with shapes:
        model = build_model(
            spec.model.model_copy(update={"init": "random"}),
            num_classes=num_classes,
            num_mel_bins=num_mel_bins,
            num_frames=recipe.num_frames,
            seed=0,
        )
        batch = _batch(spec, num_clips, num_mel_bins, num_classes)
    follows = getattr(model.config, "predicts", "patches") == "features"
    teacher = model if follows else None  # costs what another of its shape would
    objective = build_objective(spec, model, "multiclass", teacher)
    cost = Cost(run, spec.stage, spec.model.name, epochs=recipe.epochs)
    cost.parameters = _count_parameters(model)
    num_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    cost.state_bytes = BYTES_PER_VALUE * (
        sum(cost.parameters.values()) + num_trained * (1 + 2 * len(objective.passes))
    )
    plans = _plans(objective, num_clips)  # a plan is numbers, not shapes
    with shapes:
        for share, plan in plans:
            for step_pass in objective.passes:
                counter = _count_flops(objective, batch, plan, step_pass)
                _add(cost.forward_flops, counter.forward, share / num_clips)
                _add(cost.backward_flops, counter.backward, share / num_clips)
                kept = _count_activations(objective, batch, plan, step_pass) / num_clips
                cost.activation_bytes = max(cost.activation_bytes, kept)
    return cost


def _plans(objective: TrainObjective, num_clips: int) -> list[tuple[float, Any]]:
    """What steps draw, with their shares; pre-training's draws all cost the same."""
    if isinstance(objective, Classify) and not objective.all_heads:
        shares = zip(HEADS, objective.modality_probs, strict=True)
        return [(share, ClassifyPlan({head: 1.0})) for head, share in shares if share > 0]
    return [(1.0, objective.draw(num_clips, torch.Generator().manual_seed(0)))]


def _sample_size(spec: TrainSpec) -> int:
    """As many clips as give every mask ratio its share."""
    if isinstance(spec.recipe, FinetuneConfig):
        return 1
    if spec.model.method in ("mavil", "diffmavil"):
        return len(spec.recipe.mavil.mask_ratios) or 1
    return len(spec.recipe.contrast_ratios)


def _batch(
    spec: TrainSpec, num_clips: int, num_mel_bins: int, num_classes: int
) -> dict[str, Tensor]:
    side = spec.model.img_size
    return {
        "logmel": torch.zeros(num_clips, spec.model.target_length, num_mel_bins),
        "frames": torch.zeros(num_clips, spec.recipe.num_frames, 3, side, side),
        "targets": torch.zeros(num_clips, max(1, num_classes)),
    }


def _count_parameters(model: nn.Module) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def _count_flops(
    objective: TrainObjective, batch: dict[str, Tensor], plan: Any, step_pass: str
) -> PartCounter:
    """Operations of a batch by part of the network, forward and backward."""
    # Attention as plain matrix products is what the counter knows on every device.
    counter = PartCounter(network_parts(objective.model))
    with sdpa_kernel(SDPBackend.MATH), counter:
        objective(batch, plan, step_pass)["loss"].backward()
    return counter


def _count_activations(
    objective: TrainObjective, batch: dict[str, Tensor], plan: Any, step_pass: str
) -> float:
    """Bytes that the forward pass keeps for the backward pass, parameters left out."""
    kept: dict[int, Tensor] = {}
    known = {p.untyped_storage()._cdata for p in objective.parameters()}

    def keep(tensor: Tensor) -> Tensor:
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


def gpu_hours(cost: Cost, *, num_clips: int, peak_flops: float, utilisation: float) -> float:
    """Hours on one GPU for all epochs over ``num_clips`` clips."""
    return cost.flops * num_clips * cost.epochs / (peak_flops * utilisation) / 3600


def run_costs(config: Config, name: str, dataset: str) -> list[Cost]:
    """Costs of a run's pre-training and fine-tuning."""
    run: RunConfig = resolve_run(config, name)
    costs = []
    for stage in ("pretrain", "finetune"):
        recipe = getattr(run, stage)
        spec = TrainSpec(stage=stage, run_dir=Path(name), model=run.model, recipe=recipe)  # type: ignore[arg-type]
        costs.append(
            training_cost(
                name,
                spec,
                num_mel_bins=config.audio.num_mel_bins,
                num_classes=NUM_CLASSES[dataset] if isinstance(recipe, FinetuneConfig) else 0,
            )
        )
    return costs


def read_config(files: Sequence[Path]) -> Config:
    """The default configuration with overlays on top, first file first.

    Raises:
        ConfigError: a file cannot be read, or a value is not allowed.
    """
    merged: dict[str, Any] = Config().model_dump(mode="json")
    for path in files:
        try:
            overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
        merged = merge(merged, overlay or {})
    return load_config(merged, files)


def _table(cost: Cost, options: argparse.Namespace) -> str:
    rows = [f"{cost.run} {cost.stage}: {cost.model}"]
    rows += [f"  {'part':<16}{'Mparam':>10}{'GF fwd':>10}{'GF bwd':>10}"]
    for part in sorted({*cost.forward_flops, *cost.parameters}):
        values = (
            cost.parameters.get(part, 0) / 1e6,
            cost.forward_flops.get(part, 0) / 1e9,
            cost.backward_flops.get(part, 0) / 1e9,
        )
        if max(values) >= SMALLEST_SHOWN:
            rows.append(f"  {part:<16}" + "".join(f"{value:>10.2f}" for value in values))
    rows += [
        f"  {cost.flops / 1e9:.1f} GFLOP per clip and step",
        f"  {cost.activation_bytes / 1e6:.1f} MB of activations per clip (fp32), "
        f"{cost.state_bytes / 1e9:.2f} GB of weights, gradients and moments",
        f"  {cost.gpu_hours:.1f} {options.gpu} hours for {cost.epochs:g} epochs of "
        f"{options.dataset} at an assumed utilisation of {options.utilisation:.0%}",
    ]
    return "\n".join(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline_src.train.cost", description=__doc__)
    add = parser.add_argument
    add("configs", type=Path, nargs="*", help="overlays of config.yaml, later ones win")
    add("--dataset", choices=sorted(NUM_CLIPS), default="vggsound", help="size of an epoch")
    add("--gpu", choices=sorted(PEAK_FLOPS), default="a100")
    add("--utilisation", type=float, default=0.45, help="share of the peak that is reached")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main() -> None:
    """Print the cost of every run that the configuration lists."""
    options = _parser().parse_args()
    try:
        config = read_config(options.configs)
        costs = [c for name in config.run_names for c in run_costs(config, name, options.dataset)]
    except PipelineError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    for cost in costs:
        cost.gpu_hours = gpu_hours(
            cost,
            num_clips=NUM_CLIPS[options.dataset],
            peak_flops=PEAK_FLOPS[options.gpu],
            utilisation=options.utilisation,
        )
    if options.json:
        print(json.dumps([{**asdict(cost), "flops": cost.flops} for cost in costs], indent=1))
    else:
        print("\n".join(_table(cost, options) for cost in costs))


if __name__ == "__main__":
    main()
