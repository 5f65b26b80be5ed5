"""What trainings cost before they run.

Prints parameters, operations and memory of every run that a configuration lists, counted on shapes
(``measure.py``); GPU hours follow from a peak rate and an assumed utilisation. ``--compare`` puts
runs of several configurations into one table, with their ratios to the first.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from pipeline_src.config import Config, FinetuneConfig, PretrainConfig, RunConfig, resolve_run
from pipeline_src.datasets.clip_lists import classes_of, read_clips
from pipeline_src.datasets.dataset import dataset_file, load_dataset
from pipeline_src.errors import ConfigError, did_you_mean
from pipeline_src.train.measure import Cost, training_cost


class Material(NamedTuple):
    """What an epoch goes over."""

    num_clips: int
    num_classes: int


# AudioSet, VGGSound: clips alive when the published models were trained (training logs of CAV-MAE).
DATASETS = {
    "audioset_2m": Material(1_772_023, 527),
    "audioset_20k": Material(18_691, 527),
    "avdigits": Material(2_000, 10),
    "vggsound": Material(183_727, 309),
}
# Dense half-precision matrix products per second, by the makers' data sheets.
PEAK_FLOPS = {"v100": 125e12, "a100": 312e12, "h100": 989e12}
STAGES = ("pretrain", "finetune")
SMALLEST_SHOWN = 0.01


@cache
def epoch_of(dataset: str) -> Material:
    """Return what an epoch of a data set goes over: as published models saw it, or as it is listed.

    Args:
        dataset: a name, or the path of a data set's YAML. Of one with folds one is held out.
    Raises:
        ConfigError, ManifestError: there is no such data set, or its list is not here.
    """
    if dataset in DATASETS:
        return DATASETS[dataset]
    path = dataset_file(dataset)
    if not path.is_file():
        known = [*DATASETS, *(one.stem for one in path.parent.glob("*.yaml"))]
        near = did_you_mean(dataset, known)
        raise ConfigError(f"--dataset {dataset}: {path} is no file{near}; the path of a YAML is")
    described = load_dataset(path)
    if described.is_packed:
        raise ConfigError(
            f"--dataset {dataset}: only its shards know how many clips there are; "
            "name a data set with a list"
        )
    classes = classes_of(described)
    clips = read_clips(described, max_seconds=math.inf, classes=classes)
    splits = Counter(clip.split for clip in clips)
    folded = round(splits.total() * (1 - 1 / len(described.splits)))
    num_clips = folded if described.folds else splits["train"]
    if not num_clips:
        raise ConfigError(f"--dataset {dataset}: it lists no clips to train on")
    return Material(num_clips, len(classes.ids))


def total_flops(cost: Cost, num_clips: int) -> float:
    """Count the operations of all epochs over ``num_clips`` clips."""
    return cost.flops * num_clips * cost.epochs


def gpu_hours(cost: Cost, *, num_clips: int, peak_flops: float, utilisation: float) -> float:
    """Estimate hours on one GPU for all epochs over ``num_clips`` clips."""
    return total_flops(cost, num_clips) / (peak_flops * utilisation) / 3600


def run_costs(config: Config, name: str, dataset: str) -> list[Cost]:
    """Measure a run's pre-training and fine-tuning."""
    run: RunConfig = resolve_run(config, name)
    costs = []
    for stage in STAGES:
        recipe: PretrainConfig | FinetuneConfig = getattr(run, stage)
        costs.append(
            training_cost(
                run.model,
                recipe,
                run=name,
                num_mel_bins=config.audio.num_mel_bins,
                num_classes=epoch_of(dataset).num_classes if recipe.has_heads else 0,
            )
        )
    return costs


def chosen_runs(configs: Sequence[Config], names: Sequence[str]) -> list[tuple[Config, str]]:
    """Choose the runs called ``names``, in that order; without names every run there is.

    Raises:
        ConfigError: no configuration lists such a run.
    """
    listed = [(config, name) for config in configs for name in config.run_names]
    known = dict.fromkeys(name for _, name in listed)
    for name in names:
        if name not in known:
            raise ConfigError(f"--runs {name}: no such run; listed: {', '.join(known)}")
    if not names:
        return listed
    return [pair for name in names for pair in listed if pair[1] == name]


def description(cost: Cost, hours: str) -> str:
    """Write the cost of one training, part by part.

    Args:
        hours: how long it would take, in words.
    """
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
        f"  {hours}",
    ]
    return "\n".join(rows)


class Column(NamedTuple):
    """A quantity of the comparison and its unit."""

    label: str
    unit: float


COLUMNS = {
    "parameters": Column("Mparam", 1e6),
    "flops_per_clip": Column("GFLOP/clip", 1e9),
    "flops": Column("PFLOP all", 1e15),
    "state_bytes": Column("GB state", 1e9),
    "memory_bytes": Column("GB step", 1e9),
}


def comparison_values(cost: Cost, *, num_clips: int, clips_per_gpu: int) -> dict[str, float]:
    """Give the compared quantities of one training; ``num_clips`` is the size of an epoch."""
    return {
        "parameters": cost.num_parameters,
        "flops_per_clip": cost.flops,
        "flops": total_flops(cost, num_clips),
        "state_bytes": cost.state_bytes,
        "memory_bytes": cost.memory_bytes(clips_per_gpu),
    }


def comparison_table(costs: Iterable[Cost], *, dataset: str, clips_per_gpu: int) -> str:
    """Write one line a run and stage; beside each value its ratio to the stage's first run."""
    num_clips, rows = epoch_of(dataset).num_clips, []
    measured = [
        (cost, comparison_values(cost, num_clips=num_clips, clips_per_gpu=clips_per_gpu))
        for cost in costs
    ]
    for stage in STAGES:
        lines = [(cost, values) for cost, values in measured if cost.stage == stage]
        width = max(len(cost.run) for cost, _ in lines) + 2
        rows.append(
            f"{stage:<{width}}" + "".join(f"{column.label:>18}" for column in COLUMNS.values())
        )
        first = lines[0][1]
        for cost, values in lines:
            cells = (
                f"{values[key] / column.unit:>10,.3f} {values[key] / first[key]:>6.3f}x"
                for key, column in COLUMNS.items()
            )
            rows.append(f"{cost.run:<{width}}" + "".join(cells))
    rows.append(
        f"all: every epoch of {dataset}. state: weights, gradients and moments. step: state and "
        f"activations of {clips_per_gpu} clips. All in fp32, operations forward and backward."
    )
    return "\n".join(rows)
