"""Before the rules: the configuration that a call of Snakemake means, checked, as a catalog.

Snakemake itself keeps the last of two equal keys and takes the nulls of --config for text, so the
files are read here. ``workflow`` is its object; nothing of Snakemake is imported.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.changes import changed_runs
from pipeline_src.config import Config, load_config, merge_files
from pipeline_src.config.command_line import (
    lost_settings,
    refuse_repeated,
    refuse_unknown_profile,
)
from pipeline_src.datasets.dataset import DatasetConfig
from pipeline_src.dvc.arrival import reconcile_arrived
from pipeline_src.dvc.results_folder import refuse_outside
from pipeline_src.errors import ConfigError
from pipeline_src.system.checkout import CONFIG_FILE

DATASETS_FOLDER = "config/datasets"
QUIET = ("host", "progress", "reason", "rules")  # "all" would keep errors back, too
DVC_VARIABLE = "DVC_STAGE"  # set by DVC around its stages


class Given(NamedTuple):
    """Configuration files, first read first, and what ``--config`` sets on top."""

    files: list[Path]
    assignments: list[str]


def open_catalog(workflow: Any, root: Path, logger: logging.Logger) -> Catalog:
    """Read what a call of Snakemake means; say what changed since results were made.

    Raises:
        ConfigError, ManifestError, StageError: the call or its configuration is refused.
    """
    given = _read_call(workflow, root, logger)
    config = load_config(merge_files(given.files, given.assignments), *given)
    catalog = Catalog(
        config,
        _datasets_folder(root),
        looks_for_files=workflow.is_main_process,  # once, not by every job on a cluster
        fetch=_fetch_lists(workflow, config, logger),
    )
    is_of_dvc = DVC_VARIABLE in os.environ
    if is_of_dvc:  # DVC itself looks after hours of work
        refuse_outside(catalog.results, Path())
    if workflow.is_main_process:
        for sentence in changed_runs(catalog):
            logger.warning(sentence)
        if not is_of_dvc:  # DVC decides by itself what is current
            for sentence in reconcile_arrived(catalog, _same_call(root, given)):
                logger.info(sentence)
    return catalog


def _datasets_folder(root: Path) -> Path:
    """Return the folder of the project's data sets, as params and inputs of jobs name it.

    Without the project's own place where that is the working directory: else a copy of the folder,
    or a clone beside moved results, would find every param changed.
    """
    is_here = root == Path.cwd().resolve()
    return Path(DATASETS_FOLDER) if is_here else root / DATASETS_FOLDER


def _read_call(workflow: Any, root: Path, logger: logging.Logger) -> Given:
    refuse_repeated(sys.argv)
    refuse_unknown_profile(sys.argv, root)
    if workflow.config_settings.replace_workflow_config:
        raise ConfigError(
            "--replace-workflow-config would put built-in defaults in place of config/config.yaml; "
            "leave it out, --configfile is merged on top of it"
        )
    for sentence in lost_settings(sys.argv, os.environ, root):
        logger.warning(sentence)
    files = [root / CONFIG_FILE, *workflow.overwrite_configfiles]
    short = [Path(os.path.relpath(os.path.realpath(path))) for path in files]
    return Given(short, workflow.config_settings.config_args)


def _fetch_lists(
    workflow: Any, config: Config, logger: logging.Logger
) -> Callable[[DatasetConfig], None]:
    """Return what brings published lists: in a run, not in a dry run or in a job of its own."""

    def fetch(dataset: DatasetConfig) -> None:
        plugin = workflow.executor_plugin  # there once the targets are looked at
        if plugin is None or not workflow.is_main_process or workflow.dryrun or workflow.touch:
            return
        from pipeline_src.download.official import fetch_official

        fetch_official(dataset, config.download, config.rate_limits, logger.info)

    return fetch


def _same_call(root: Path, given: Given) -> list[str]:
    """Return the options of a Snakemake that reads the same workflow and configuration."""
    options = ["--snakefile", str(root / "Snakefile"), "--cores", "1", "--nolock"]
    options += ["--workflow-profile", "none", "--quiet", *QUIET]
    options += ["--configfile", *map(str, given.files)]
    return options + (["--config", *given.assignments] if given.assignments else [])
