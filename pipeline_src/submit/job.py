"""What runs inside the job: one rank of one training."""

import logging
import os
from pathlib import Path

import submitit
from submitit.helpers import TorchDistributedEnvironment

from pipeline_src.atomic import write_text
from pipeline_src.errors import PipelineError

ERROR_FILE = "error.txt"


class TrainJob:
    """Picklable job; finds the newest complete checkpoint by itself, so it may start any time."""

    def __init__(self, spec_path: Path) -> None:
        self.spec_path = spec_path

    def __call__(self) -> None:
        """Train; a user error is also left as text, for the waiter to show plainly."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        environment = submitit.JobEnvironment()
        if environment.num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        if environment.num_nodes == 1:
            os.environ["MASTER_ADDR"] = "127.0.0.1"  # host names need not resolve on a laptop
        # torch is loaded in the job only: the waiter lives on a login node.
        from pipeline_src.runs.spec import load_spec
        from pipeline_src.train.run import run_training

        spec = load_spec(self.spec_path)
        try:
            run_training(spec)
        except PipelineError as error:
            write_text(spec.run_dir / ERROR_FILE, f"{type(error).__name__}: {error}")
            raise
