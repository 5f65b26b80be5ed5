"""What checkpoints of before 0.2 lack for their use: how their media were prepared.

It is read from the shards' index, from the configuration that the run's evaluation has kept, or
from the files that are named; converted weights get the published settings. Weights stay as they
are. Where DVC keeps the folder, `dvc commit` records the change.
"""

import argparse
from pathlib import Path

from pipeline_src.inference.complete import complete


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folders, and where to look."""
    add = parser.add_argument
    add("folders", type=Path, nargs="+", help="of trainings or checkpoints")
    add("--configfile", type=Path, nargs="+", default=[], help="overlays that it was trained with")
    add("--dataset", type=Path, nargs="+", default=[], help="YAML of its data sets, for licences")


def run(options: argparse.Namespace) -> int:
    """Complete each folder and say so."""
    for folder in options.folders:
        print(complete(folder, options.configfile, options.dataset))
    return 0
