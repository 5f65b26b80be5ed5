"""Submit a training, wait for it with progress, and pick up one that is already running."""

import json
import logging
import time
from pathlib import Path

import psutil
import submitit

from pipeline_src.config import SubmitConfig
from pipeline_src.errors import TrainingError
from pipeline_src.runs.spec import DONE_FILE, TrainSpec
from pipeline_src.submit.job import ERROR_FILE, TrainJob
from pipeline_src.submit.progress import Progress
from pipeline_src.submit.state import JobRecord, pick_cluster, read_job

POLL_SECONDS = {"local": 0.5, "slurm": 15.0}
LOG_TAIL_LINES = 15
logger = logging.getLogger(__name__)


def run_and_wait(
    spec: TrainSpec, submit: SubmitConfig, *, gpus_per_node: int = 0, mem_mb: int = 0
) -> Path:
    """Train ``spec`` as a job and return its done.json; ranks of a node share its threads.

    A live job for the same spec, left by an earlier call that was killed, is waited for instead.

    Raises:
        TrainingError: the job failed or died; the message ends with the tail of its log.
    """
    per_rank = max(1, spec.num_threads // submit.tasks_per_node)
    spec = spec.model_copy(update={"num_threads": per_rank})
    spec.run_dir.mkdir(parents=True, exist_ok=True)
    fingerprint = spec.fingerprint()
    record = read_job(spec.run_dir)
    if record and record.is_alive():
        if record.fingerprint == fingerprint:
            logger.info("re-attached to %s job %s", record.cluster, record.job_id)
            return _wait(spec, record, fingerprint)
        logger.warning("stopping job %s of an earlier configuration", record.job_id)
        record.stop()
        _wait_for_end(record)
    record = _submit(spec, submit, fingerprint, gpus_per_node=gpus_per_node, mem_mb=mem_mb)
    return _wait(spec, record, fingerprint)


def _submit(
    spec: TrainSpec, submit: SubmitConfig, fingerprint: str, *, gpus_per_node: int, mem_mb: int
) -> JobRecord:
    cluster = pick_cluster(submit.cluster)
    folder = spec.run_dir / "jobs"
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    executor.update_parameters(
        name=f"{spec.stage}-{spec.run_dir.parent.name}",
        nodes=submit.nodes,
        tasks_per_node=submit.tasks_per_node,
        cpus_per_task=spec.num_threads,
        gpus_per_node=gpus_per_node,
        timeout_min=submit.timeout_minutes,
        stderr_to_stdout=True,
    )
    if cluster == "slurm" and mem_mb:
        executor.update_parameters(slurm_mem=f"{mem_mb}M")
    (spec.run_dir / ERROR_FILE).unlink(missing_ok=True)
    job = executor.submit(TrainJob(spec.save()))
    started = psutil.Process(int(job.job_id)).create_time() if cluster == "local" else 0.0
    record = JobRecord(cluster, job.job_id, fingerprint, str(folder), started)
    record.save(spec.run_dir)
    logger.info("submitted %s job %s, log in %s", cluster, job.job_id, folder)
    return record


def _wait(spec: TrainSpec, record: JobRecord, fingerprint: str) -> Path:
    label = f"{spec.stage} {spec.run_dir}"
    progress = Progress(label, spec.run_dir / "metrics.jsonl")
    try:
        while record.is_alive():
            progress.show()
            time.sleep(POLL_SECONDS[record.cluster])
    except BaseException:
        if record.cluster == "local":
            record.stop()
        raise
    finally:
        progress.close()
    done = spec.run_dir / DONE_FILE
    if not done.is_file() or json.loads(done.read_text())["fingerprint"] != fingerprint:
        raise TrainingError(_explain(spec.run_dir, record))
    return done


def _wait_for_end(record: JobRecord, timeout_seconds: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while record.is_alive():
        if time.monotonic() > deadline:
            raise TrainingError(
                f"{record.cluster} job {record.job_id} does not end; stop it, then run again"
            )
        time.sleep(POLL_SECONDS[record.cluster])


def _explain(run_dir: Path, record: JobRecord) -> str:
    told = run_dir / ERROR_FILE
    if told.is_file():
        return told.read_text(encoding="utf-8")
    log = Path(record.folder) / f"{record.job_id}_0_log.out"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    tail = "\n  ".join(lines[-LOG_TAIL_LINES:])
    return (
        f"{record.cluster} job {record.job_id} ended without a result. Run the same command again "
        f"to continue from the last checkpoint. End of {log}:\n  {tail or '(empty)'}"
    )
