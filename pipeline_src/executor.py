"""What Snakemake's executor means for the jobs that the workflow submits by itself."""

import os
import shutil
from pathlib import Path

EXECUTOR_VARIABLE = "PIPELINE_EXECUTOR"
CONF_VARIABLE = "PIPELINE_SLURM_CONF"


def announce_executor(name: str) -> None:
    """Tell the waiters of training jobs which executor runs the workflow."""
    os.environ[EXECUTOR_VARIABLE] = name


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
