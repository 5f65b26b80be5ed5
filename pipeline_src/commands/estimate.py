"""Clips, gigabytes and hours of a data set, and what every stage takes; asks no host."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline_src.cli import main
from pipeline_src.commands import CHECKOUT
from pipeline_src.config import read_config
from pipeline_src.errors import ConfigError, did_you_mean
from pipeline_src.estimate import LOCAL, Assumed, describe, estimate, read_listing
from pipeline_src.manifest.datasets import DatasetConfig, load_dataset
from pipeline_src.workload import describe_workload, workload

DATASETS = CHECKOUT / "config/datasets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data set, the configuration, and what is assumed of sources nobody has measured."""
    add = parser.add_argument
    add("dataset", help="name, or path of a data set's YAML file")
    add("configs", type=Path, nargs="*", help="overlays of config.yaml, later ones win")
    add("--kbit-per-second", type=float, default=1000.0, help="media rate of unmeasured sources")
    add("--minutes-per-video", type=float, default=4.0, help="length of an unmeasured whole video")
    add("--mbit-per-second", type=float, default=100.0, help="the line")
    add("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> int:
    """Print the estimate for what the command line names."""
    assumed = Assumed(options.kbit_per_second, options.minutes_per_video, options.mbit_per_second)
    config = read_config(options.configs)
    dataset = _find_dataset(options.dataset)
    listing = read_listing(dataset, config, assumed)
    places = estimate(listing, dataset, config, assumed)
    loads = workload(config, dataset.name, listing.clips_per_split, listing.mean_seconds)
    if options.json:
        rows = [{k: v for k, v in asdict(p).items() if k != "sizes"} for p in places]
        stages = [asdict(load) for load in loads]
        print(json.dumps({"places": rows, "assumed": asdict(assumed), "stages": stages}, indent=1))
    else:
        num_raw = sum(place.num_sources for place in places if place.name != LOCAL)
        print("\n".join([*describe(places, assumed), "", *describe_workload(loads, num_raw)]))
    return 0


def _find_dataset(name: str) -> DatasetConfig:
    path = Path(name) if name.endswith((".yaml", ".yml")) else DATASETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in DATASETS.glob("*.yaml")))
        near = did_you_mean(name, [one.stem for one in DATASETS.glob("*.yaml")])
        raise ConfigError(
            f"unknown data set {name!r}{near}; known: {known}, or the path of a YAML file"
        )
    dataset = load_dataset(path)
    if dataset.is_packed:
        raise ConfigError(f"data set {dataset.name}: its shards are packed, nothing is fetched")
    return dataset


if __name__ == "__main__":
    sys.exit(main(["estimate", *sys.argv[1:]]))
