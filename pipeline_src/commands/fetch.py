"""Fetch the published lists and archives of data sets where they are missing.

A run does so by itself; a dry run never does. An interrupted transfer continues where it broke off.
"""

import argparse
import contextlib
from pathlib import Path

from pipeline_src.download.official import fetch_official
from pipeline_src.dvc.render import load_catalog
from pipeline_src.system.checkout import CHECKOUT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the data sets."""
    parser.add_argument("datasets", nargs="+", help="names in config/datasets, e.g. vggsound")


def run(options: argparse.Namespace) -> int:
    """Fetch and say what was fetched."""
    with contextlib.chdir(CHECKOUT):
        catalog = load_catalog(Path())
        config = catalog.config
        for name in options.datasets:
            made = fetch_official(catalog.dataset(name), config.download, config.rate_limits, print)
            print(f"{name}: {len(made) or 'no'} files fetched")
    return 0
