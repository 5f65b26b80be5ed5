"""What this checkout and this machine lack, each with a next step; exit code 1 if it is broken."""

import argparse
import contextlib
from pathlib import Path

from pipeline_src.commands import CHECKOUT
from pipeline_src.doctor import examine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The doctor takes none."""


def run(options: argparse.Namespace) -> int:
    """Print every check; 1 when something is broken."""
    with contextlib.chdir(CHECKOUT):
        lines = list(examine(Path()))
    for line in lines:
        print(f"{line.state:7}{line.text}")
    return int(any(line.state == "broken" for line in lines))
