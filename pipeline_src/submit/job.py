"""What runs inside the job: one rank of one training."""

import logging
import os
from pathlib import Path

import submitit
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from pipeline_src.errors import PipelineError


class TrainJob:
    """Picklable job; returns the error message of a user error, or an empty string.

    Requeued after a time limit or pre-emption it finds the newest complete checkpoint by itself.
    """

    def __init__(self, spec_path: Path) -> None:
        self.spec_path = spec_path

    def __call__(self) -> str:
        """Train; user errors come back as text, so that the waiter can show them plainly."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        environment = submitit.JobEnvironment()
        if environment.num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        if environment.num_nodes == 1:
            os.environ["MASTER_ADDR"] = "127.0.0.1"  # host names need not resolve on a laptop
        # torch is loaded in the job only: the waiter lives on a login node.
        from pipeline_src.runs.spec import load_spec
        from pipeline_src.train.run import run_training

        try:
            run_training(load_spec(self.spec_path))
        except PipelineError as error:
            logging.getLogger(__name__).exception("training failed")
            return str(error)
        return ""

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues."""
        return DelayedSubmission(TrainJob(self.spec_path))
