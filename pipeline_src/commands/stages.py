"""dvc.yaml, generated from config/config.yaml: one stage per target of the workflow."""

import argparse
import contextlib
from pathlib import Path

from pipeline_src.dvc.drift import refuse_drift
from pipeline_src.dvc.render import DVC_FILE, load_catalog, render
from pipeline_src.dvc.results_folder import refuse_outside
from pipeline_src.dvc.stale import drop_stale
from pipeline_src.system.atomic import write_text
from pipeline_src.system.checkout import CHECKOUT

ROOT = Path()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions, one of which is asked for."""
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write dvc.yaml")
    action.add_argument("--check", action="store_true", help="fail where dvc.yaml has drifted")
    action.add_argument(
        "--drop-stale",
        metavar="STAGE",
        help="delete manifests of a data stage that were made with other settings or inputs",
    )


def run(options: argparse.Namespace) -> int:
    """Do what was asked."""
    with contextlib.chdir(CHECKOUT):
        if options.write:
            write_text(ROOT / DVC_FILE, render(load_catalog(ROOT)))
            return 0
        refuse_drift(ROOT)
        refuse_outside(load_catalog(ROOT).results, ROOT)
        if options.check:
            print(f"{DVC_FILE} is as generated")
        if options.drop_stale:
            kind, _, name = options.drop_stale.partition("_")
            dropped = drop_stale(load_catalog(ROOT), kind, name)
            print(f"{options.drop_stale}: {dropped} stale manifests dropped")
    return 0
