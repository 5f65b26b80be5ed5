"""Keep SLURM_CONF where Snakemake's Slurm plugin drops it."""

import os
import shutil
from pathlib import Path

KEPT_NAME = "PIPELINE_SLURM_CONF"


def keep_slurm_conf(wrappers: Path) -> None:
    """Put ``wrappers`` first on PATH where SLURM_CONF names the cluster.

    They are called like Slurm's commands, restore the variable and call the real ones.
    """
    conf = os.environ.get("SLURM_CONF") or os.environ.get(KEPT_NAME)
    path = os.environ.get("PATH", "").split(os.pathsep)
    if conf and shutil.which("sbatch") and str(wrappers) not in path:
        os.environ[KEPT_NAME] = conf
        os.environ["PATH"] = os.pathsep.join([str(wrappers), *path])
