"""What Snakemake's executor means for the jobs that the workflow submits by itself."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

EXECUTOR_VARIABLE = "PIPELINE_EXECUTOR"
CONF_VARIABLE = "PIPELINE_SLURM_CONF"


def import_package_from(root: Path) -> None:
    """Have scripts and training jobs import the package of this checkout."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])


def announce_executor(name: str) -> None:
    """Tell the waiters of training jobs which executor runs the workflow."""
    os.environ[EXECUTOR_VARIABLE] = name


def replaced_resources(
    profile: Path, given: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, list[str]]]:
    """Yield rules of a profile's ``set-resources`` and what they ask for no more.

    Snakemake takes --set-resources in place of the profile's, not on top of them: who raises one
    value on the command line loses all others, GPUs and memory included.

    Args:
        given: resources by rule as Snakemake has them.
    """
    values = yaml.safe_load(profile.read_text(encoding="utf-8")).get("set-resources", {})
    for rule, resources in values.items():
        if lost := sorted(resources.keys() - given.get(rule, {}).keys()):
            yield rule, lost


def pick_cluster(wanted: str) -> str:
    """Resolve ``auto``: training goes where the other jobs go, to Slurm or nowhere else."""
    if wanted != "auto":
        return wanted
    return "slurm" if os.environ.get(EXECUTOR_VARIABLE) == "slurm" else "local"


def keep_slurm_conf(wrappers: Path) -> None:
    """Put ``wrappers`` first on PATH where SLURM_CONF names the cluster.

    Snakemake's Slurm plugin drops the variable. The wrappers are called like Slurm's commands,
    restore it and call the real ones.
    """
    conf = os.environ.get("SLURM_CONF") or os.environ.get(CONF_VARIABLE)
    path = os.environ.get("PATH", "").split(os.pathsep)
    if conf and shutil.which("sbatch") and str(wrappers) not in path:
        os.environ[CONF_VARIABLE] = conf
        os.environ["PATH"] = os.pathsep.join([str(wrappers), *path])
