"""When jobs are about to run: the results are held, and the executor is made known to trainings."""

import logging
from pathlib import Path
from typing import Any

from pipeline_src.submit.interrupt import pass_on_interrupts
from pipeline_src.submit.orphans import cancel_orphans
from pipeline_src.system.executor import (
    announce_executor,
    import_package_from,
    keep_slurm_conf,
    replaced_resources,
)
from pipeline_src.system.lock import hold_results

SLURM_PROFILE = "profiles/slurm"


def prepare_environment(root: Path) -> None:
    """Have jobs import this checkout's package and reach its cluster."""
    import_package_from(root)
    keep_slurm_conf(root / SLURM_PROFILE / "bin")


def start_run(workflow: Any, root: Path, results: Path, logger: logging.Logger) -> None:
    """Hold the results until this process ends, however it ends, and prepare for its executor.

    Raises:
        StageError: another process works on these results.
    """
    hold_results(results)
    pass_on_interrupts()
    announce_executor(workflow.executor_plugin.name)
    if workflow.executor_plugin.name != "slurm":
        return
    given = workflow.resource_settings.overwrite_resources
    for rule, lost in replaced_resources(root / SLURM_PROFILE / "profile.yaml", given):
        logger.warning(
            f"{rule} goes without the Slurm profile's {', '.join(lost)}: --set-resources "
            "replaces all of a profile's; name them there too, or edit a copy of the profile"
        )
    if left := cancel_orphans():
        logger.warning(f"Cancelled chunk jobs that an earlier call left: {left}")
