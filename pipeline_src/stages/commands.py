"""``python -m pipeline_src stages`` and ``sync``."""

import argparse
from pathlib import Path

from pipeline_src.atomic import write_text
from pipeline_src.errors import ConfigError
from pipeline_src.stages.render import DVC_FILE, load_catalog, render
from pipeline_src.stages.stale import drop_stale
from pipeline_src.stages.sync import compare, settle

ROOT = Path()


def add_stages_parser(parsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command ``stages``."""
    parser = parsers.add_parser("stages", help="dvc.yaml, generated from config/config.yaml")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write dvc.yaml")
    action.add_argument("--check", action="store_true", help="fail where dvc.yaml has drifted")
    action.add_argument(
        "--drop-stale",
        metavar="STAGE",
        help="delete manifests of a data stage that were made with other settings or inputs",
    )
    parser.set_defaults(run=run_stages)


def run_stages(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    if arguments.write:
        write_text(ROOT / DVC_FILE, render(load_catalog(ROOT)))
        return 0
    refuse_drift(ROOT)
    if arguments.drop_stale:
        kind, _, name = arguments.drop_stale.partition("_")
        dropped = drop_stale(load_catalog(ROOT), kind, name)
        print(f"{arguments.drop_stale}: {dropped} stale manifests dropped")
    return 0


def add_sync_parser(parsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command ``sync``."""
    parser = parsers.add_parser("sync", help="settle what DVC and Snakemake hold of the results")
    parser.set_defaults(run=run_sync)


def run_sync(arguments: argparse.Namespace) -> int:
    """Settle every stage and print a line for each."""
    refuse_drift(ROOT)
    catalog = load_catalog(ROOT)
    for line in settle(catalog, compare(catalog)):
        print(line)
    return 0


def is_drifted(root: Path) -> bool:
    """Whether dvc.yaml differs from what the configuration would give."""
    path = root / DVC_FILE
    return not path.is_file() or path.read_text(encoding="utf-8") != render(load_catalog(root))


def refuse_drift(root: Path) -> None:
    """Raise ConfigError where dvc.yaml was written for other data sets, runs or results."""
    if is_drifted(root):
        raise ConfigError(
            f"{DVC_FILE} does not fit config/config.yaml (data sets, runs or results changed); run "
            "`python -m pipeline_src stages --write`, then the same command again"
        )
