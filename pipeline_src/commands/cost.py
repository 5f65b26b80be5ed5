"""Parameters, operations and memory of every run that a configuration lists, before it runs.

GPU hours follow from a peak rate and an assumed utilisation. --compare puts runs of several
configurations into one table, with their ratios to the first.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from pipeline_src.config import Config, read_config
from pipeline_src.train.cost import (
    PEAK_FLOPS,
    chosen_runs,
    comparison_table,
    description,
    epoch_of,
    gpu_hours,
    run_costs,
)
from pipeline_src.train.measure import Cost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configurations, and what the hours are computed with."""
    add = parser.add_argument
    add("configs", type=Path, nargs="*", help="overlays of config.yaml, later ones win")
    add("--compare", action="store_true", help="one table; each file is a configuration of its own")
    add("--runs", nargs="+", default=[], metavar="RUN", help="only these runs, in this order")
    add("--clips-per-gpu", type=int, default=4, help="with --compare: clips whose activations fit")
    add("--dataset", default="vggsound", help="size of an epoch: a name, or the path of a YAML")
    add("--gpu", choices=sorted(PEAK_FLOPS), default="a100")
    add("--utilisation", type=float, default=0.45, help="share of the peak that is reached")
    add("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> int:
    """Print the cost of every run that the configuration lists."""
    runs = chosen_runs(_configs(options), options.runs)
    costs = [cost for config, name in runs for cost in run_costs(config, name, options.dataset)]
    if options.compare and not options.json:
        print(comparison_table(costs, dataset=options.dataset, clips_per_gpu=options.clips_per_gpu))
        return 0
    timed = [(cost, _hours(cost, options)) for cost in costs]
    if options.json:
        rows = [{**asdict(cost), "gpu_hours": hours, "flops": cost.flops} for cost, hours in timed]
        print(json.dumps(rows, indent=1))
    else:
        print("\n".join(description(cost, _said(cost, hours, options)) for cost, hours in timed))
    return 0


def _hours(cost: Cost, options: argparse.Namespace) -> float:
    return gpu_hours(
        cost,
        num_clips=epoch_of(options.dataset).num_clips,
        peak_flops=PEAK_FLOPS[options.gpu],
        utilisation=options.utilisation,
    )


def _said(cost: Cost, hours: float, options: argparse.Namespace) -> str:
    return (
        f"{hours:.1f} {options.gpu} hours for {cost.epochs:g} epochs of {options.dataset} at an "
        f"assumed utilisation of {options.utilisation:.0%}"
    )


def _configs(options: argparse.Namespace) -> list[Config]:
    if options.compare and options.configs:
        return [read_config([path]) for path in options.configs]
    return [read_config(options.configs)]
