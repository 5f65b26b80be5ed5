"""Reconcile what DVC and Snakemake hold of the results, after `dvc checkout` or `dvc pull`."""

import argparse
import contextlib
from pathlib import Path

from pipeline_src.dvc.drift import refuse_drift
from pipeline_src.dvc.render import load_catalog
from pipeline_src.dvc.sync import compare, reconcile
from pipeline_src.system.checkout import CHECKOUT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no option."""


def run(options: argparse.Namespace) -> int:
    """Reconcile every stage and print a line for each."""
    with contextlib.chdir(CHECKOUT):
        refuse_drift(Path())
        catalog = load_catalog(Path())
        for line in reconcile(compare(catalog)):
            print(line)
    return 0
