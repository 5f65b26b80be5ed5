"""Classification and retrieval of every evaluation in a results folder, with 95 % intervals."""

import argparse
import sys
from pathlib import Path

from pipeline_src.cli import main
from pipeline_src.report.table import print_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The results folder."""
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"))


def run(options: argparse.Namespace) -> int:
    """Print the table and where the report is."""
    print_results(options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main(["table", *sys.argv[1:]]))
