"""Classification and retrieval of every evaluation in a results folder, with 95 % intervals."""

import argparse
from pathlib import Path

from pipeline_src.report.table import print_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the results folder."""
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"))


def run(options: argparse.Namespace) -> int:
    """Print the table and where the report is."""
    print_results(options.results)
    return 0
