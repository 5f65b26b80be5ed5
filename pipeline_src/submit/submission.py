"""Submit one training job through submitit, or find the one that is already there."""

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import psutil
import submitit
from submitit.core.utils import FailedJobError

from pipeline_src.errors import ConfigError, TrainingError
from pipeline_src.runs.lease import refuse_if_trained
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.submit import slurm
from pipeline_src.submit.environment import PRIVATE, ignore_terminal_signals, job_environment
from pipeline_src.submit.job import ERROR_FILE, TrainJob
from pipeline_src.submit.rendezvous import forget_ports
from pipeline_src.submit.request import JobRequest
from pipeline_src.submit.state import JobRecord, read_job, start_mark
from pipeline_src.train.stop import TIME_IS_UP

JOBS_FOLDER = "jobs"
logger = logging.getLogger(__name__)


def find_running(spec: TrainSpec, cluster: str) -> JobRecord | None:
    """Find the live job of this run by its record, or by its mark in the queue.

    The second finds a job whose submitter was killed before it could write the record.

    Raises:
        TrainingError: the queue does not answer, or the job is another machine's.
    """
    record = read_job(spec.run_dir)
    if record and record.state().is_alive:
        return record
    marks = {job.comment: job.job_id for job in slurm.queued_jobs()} if cluster == "slurm" else {}
    ours = {mark: job_id for mark, job_id in marks.items() if mark.startswith(_mark(spec, ""))}
    if not ours:
        return None
    current = _mark(spec, spec.fingerprint())
    mark = current if current in ours else next(iter(ours))
    fingerprint = spec.fingerprint() if mark == current else "of an earlier configuration"
    record = JobRecord(cluster, ours[mark], fingerprint, str(spec.run_dir / JOBS_FOLDER))
    record.save(spec.run_dir)
    return record


def submit(
    spec: TrainSpec,
    request: JobRequest,
    cluster: str,
    *,
    freeze: Callable[[], Path],
    without_gpu: Literal["fail", "cpu"],
) -> JobRecord:
    """Put the training into the queue and write job.json.

    Args:
        freeze: gives the copy of this package that the job runs; called when nobody trains here.
    Raises:
        ConfigError: the batch cannot be shared by the ranks, or several nodes without Slurm.
        TrainingError: the scheduler refused the job; says why.
        RunInUseError: somebody trains in this folder, without a job that is known.
    """
    _check(spec, request, cluster)
    refuse_if_trained(spec.run_dir)
    folder = spec.run_dir / JOBS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    _keep_private(folder)
    forget_ports(folder)
    (spec.run_dir / ERROR_FILE).unlink(missing_ok=True)
    spec_path = spec.save()
    with job_environment(freeze()), ignore_terminal_signals():
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**_parameters(spec, request, cluster))
        try:
            job = executor.submit(
                TrainJob(
                    spec_path.absolute(),
                    num_gpus=request.gpus_per_node,
                    without_gpu=without_gpu,
                    visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
                )
            )
        except FailedJobError as error:
            raise TrainingError(
                f"{cluster} refused the job of {spec.run_dir}: {error}; the profile's resources "
                "(slurm_partition, runtime, mem_mb, gpu, ...) are what it asked for"
            ) from None
    _keep_private(folder, job.job_id)
    started = start_mark(psutil.Process(int(job.job_id))) if cluster == "local" else 0.0
    record = JobRecord(
        cluster, job.job_id, spec.fingerprint(), str(folder), started, socket.gethostname()
    )
    record.save(spec.run_dir)
    logger.info("submitted %s job %s, log in %s", cluster, job.job_id, folder)
    return record


def _keep_private(folder: Path, job_id: str = "") -> None:
    """Let only the user read or replace what submitit executes: its files are pickles."""
    with suppress(PermissionError):  # the folder of a colleague who shares results
        folder.chmod(0o700)
    if job_id:
        for path in folder.glob(f"*{job_id}*"):
            with suppress(OSError):
                path.chmod(PRIVATE)


def _check(spec: TrainSpec, request: JobRequest, cluster: str) -> None:
    if cluster == "local" and request.nodes > 1:
        raise ConfigError(f"nodes={request.nodes} needs Slurm; submit.cluster is local here")
    request.check_batches(spec.stage, spec.recipe)


def _parameters(spec: TrainSpec, request: JobRequest, cluster: str) -> dict[str, Any]:
    common = {
        "name": "-".join(spec.run_dir.parts[-3 if spec.stage == "finetune" else -2 :]),
        "nodes": request.nodes,
        "tasks_per_node": request.tasks_per_node,
        "cpus_per_task": spec.num_threads,
        "gpus_per_node": request.gpus_per_node,
        "timeout_min": request.runtime,
        "stderr_to_stdout": True,
    }
    if cluster == "local":
        return common
    return {
        **common,
        **request.slurm_parameters(),
        # srun no longer takes the job's cores by itself; one dead rank must end the others.
        "slurm_srun_args": [f"--cpus-per-task={spec.num_threads}", "--kill-on-bad-exit=1"],
        "slurm_comment": _mark(spec, spec.fingerprint()),
        "slurm_additional_parameters": {
            "requeue": True,
            "signal": f"{TIME_IS_UP.name.removeprefix('SIG')}@{request.signal_delay_seconds}",
            **request.extra_options(),
        },
    }


def _mark(spec: TrainSpec, fingerprint: str) -> str:
    """Return the comment that marks a job in the queue with its run and configuration."""
    return f"train {spec.run_dir.absolute()} {fingerprint[:16]}"
