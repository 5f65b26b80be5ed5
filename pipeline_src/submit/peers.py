"""End the other ranks of a local job in which one has failed; Slurm does so by itself."""

import logging
import time
from pathlib import Path

from pipeline_src.submit.failures import read_failures
from pipeline_src.submit.state import JobRecord

PEERS_SECONDS = 60.0  # most notice by themselves that a peer is gone, and leave their stacks
logger = logging.getLogger(__name__)


class StuckPeers:
    """Kills a local job some time after one of its ranks has failed by itself.

    GPUs that wait for a rank which is gone would do so until the time limit of their collective.
    """

    def __init__(self, record: JobRecord) -> None:
        self._record = record
        self._failed_at: float | None = None

    def look(self) -> None:
        """See whether a rank has failed, and end its peers once they had their time."""
        if self._record.cluster != "local":
            return
        failures = read_failures(Path(self._record.folder), self._record.job_id)
        if not failures or failures[0].cause == "echo":
            return
        self._failed_at = self._failed_at or time.monotonic()
        if time.monotonic() - self._failed_at > PEERS_SECONDS:
            logger.warning("rank %d has failed, its peers do not end: killed", failures[0].rank)
            self._record.kill()
