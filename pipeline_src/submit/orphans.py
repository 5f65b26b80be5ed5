"""Chunk jobs that an earlier call left in the queue: Snakemake does not know them any more."""

import logging
import os
import time

from pipeline_src.errors import StageError
from pipeline_src.submit import slurm

RULE_COMMENT = "rule_"  # how Snakemake's Slurm plugin marks its jobs
logger = logging.getLogger(__name__)


def cancel_orphans() -> list[str]:
    """Cancel this user's chunk jobs of this folder and wait until they are gone.

    To be called by the one process that may work in the folder: what is in the queue then was
    left by a call that was killed, and would write the same files as the jobs that follow.

    Raises:
        StageError: they do not end. TrainingError: the queue does not answer.
    """
    found = _orphans()
    if not found:
        return []
    slurm.cancel(*found)
    deadline = time.monotonic() + slurm.END_TIMEOUT_SECONDS
    while _orphans():
        if time.monotonic() > deadline:
            raise StageError(
                f"Slurm jobs {', '.join(found)} of an earlier call do not end; "
                "wait for them or scancel them, then run the same command again"
            )
        time.sleep(1)
    return found


def _orphans() -> list[str]:
    folder = os.getcwd()  # noqa: PTH109 - as Slurm reports it
    return [
        job.job_id
        for job in slurm.queued_jobs()
        if job.work_dir == folder and job.comment.startswith(RULE_COMMENT)
    ]
