"""What runs inside the job: one rank of one training."""

import logging
import os
import signal
import socket
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import submitit

from pipeline_src.errors import (
    LoaderError,
    PipelineError,
    RunInUseError,
    TrainingError,
    describe_disk_full,
    is_disk_full,
)
from pipeline_src.runs.spec import load_spec
from pipeline_src.submit import slurm
from pipeline_src.submit.environment import PRIVATE
from pipeline_src.submit.failures import forget_failure, record_failure
from pipeline_src.submit.rendezvous import describe_ranks
from pipeline_src.system.atomic import write_text
from pipeline_src.system.cores import keep_threads_to_cores
from pipeline_src.system.parent import end_with_parent
from pipeline_src.train.stop import TIME_IS_UP, StopFlag, StopRequestedError

ERROR_FILE = "error.txt"
REQUEUE_SECONDS = 60
logger = logging.getLogger(__name__)


class TrainJob:
    """Picklable job; finds the newest complete checkpoint by itself, so it may start any time.

    Args:
        num_gpus: per node, as asked for. without_gpu: what to do when none of them works.
        visible_gpus: the submitter's CUDA_VISIBLE_DEVICES, for a job on the same machine.
    """

    def __init__(
        self,
        spec_path: Path,
        *,
        num_gpus: int,
        without_gpu: Literal["fail", "cpu"],
        visible_gpus: str | None = None,
    ) -> None:
        self.spec_path = spec_path
        self.num_gpus = num_gpus
        self.without_gpu = without_gpu
        self.visible_gpus = visible_gpus

    def __call__(self) -> None:
        """Train; leave a record of how this rank failed, for the waiter to show plainly."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        _hide_log()
        with StopFlag() as stop:
            environment = submitit.JobEnvironment()
            this_rank = (environment.paths.folder, environment.job_id, environment.global_rank)
            forget_failure(*this_rank)
            if environment.cluster == "local":
                self._see_all_gpus()
                end_with_parent(os.getppid(), signal.SIGTERM)  # the controller: save and end
            try:
                self._train(environment, stop)
            except StopRequestedError as error:
                logger.warning("%s", error)
                _leave(environment, stop.received)
            except Exception as error:
                record_failure(*this_rank, error)
                raise
            finally:
                os.umask(0o077)  # what submitit writes now

    def _train(self, environment: submitit.JobEnvironment, stop: StopFlag) -> None:
        describe_ranks(environment, stop)
        spec = load_spec(self.spec_path)
        if not self.num_gpus:
            keep_threads_to_cores(spec.num_threads, os.environ)
        # torch is loaded in the job only: the waiter lives on a login node.
        from pipeline_src.train.run import run_training

        try:
            self._check_gpus()
            run_training(spec, stop)
        except RunInUseError:
            raise  # the folder is another's, so nothing is written there
        except Exception as error:
            if is_disk_full(error):
                error = TrainingError(describe_disk_full(error, spec.run_dir))
            if isinstance(error, PipelineError) and not isinstance(error, LoaderError):
                write_text(spec.run_dir / ERROR_FILE, str(error))
            raise error

    def _check_gpus(self) -> None:
        import torch

        if not self.num_gpus or torch.cuda.is_available():
            return
        problem = f"{self.num_gpus} GPUs were asked for, and none works on {socket.gethostname()}"
        if self.without_gpu == "fail":
            raise TrainingError(
                f"{problem}: leave this node out (slurm_extra: --exclude=...), ask for none "
                "(gpus_per_node: 0 in the profile), or set submit.without_gpu: cpu"
            )
        logger.warning("%s: training on the CPU", problem)

    def _see_all_gpus(self) -> None:
        """Undo submitit's choice of GPUs, which knows nothing of the caller's own."""
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if self.visible_gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.visible_gpus


def _hide_log() -> None:
    """Make this rank's log readable for its user alone, as everything of submitit is."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                os.fchmod(stream.fileno(), PRIVATE)


def _leave(environment: submitit.JobEnvironment, received: signal.Signals | None) -> None:
    """End the job; before a time limit, put it back into the queue under the same id.

    After SIGTERM Slurm either cancels the job or requeues it by itself.
    """
    on_slurm = environment.cluster == "slurm"
    if on_slurm and received == TIME_IS_UP:
        if environment.global_rank == 0 and not slurm.requeue(environment.raw_job_id):
            logger.error("Slurm refused to requeue job %s", environment.raw_job_id)
        time.sleep(REQUEUE_SECONDS)  # the requeue ends this process
    sys.exit(f"stopped by {received.name if received else 'another rank'}, state saved")
