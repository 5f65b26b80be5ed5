"""Make a metrics.json again from its commit, and compare every figure and hash."""

import argparse
from pathlib import Path

from pipeline_src.reproduce import run_reproduce


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The figures, and where the new checkout goes."""
    parser.add_argument("metrics", type=Path, help="metrics.json of an evaluation or a probe")
    parser.add_argument(
        "--folder", type=Path, help="new checkout; default results/reproduce/<commit>"
    )


def run(options: argparse.Namespace) -> int:
    """0 when every figure and hash is the same."""
    return run_reproduce(options)
