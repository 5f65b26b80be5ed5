"""Train through a job: submit it or join a running one, wait with progress, resubmit if it dies."""

import logging
import time
from functools import cache, partial
from pathlib import Path

from pipeline_src.config import SubmitConfig
from pipeline_src.errors import TrainingError
from pipeline_src.runs.history import METRICS_LOG_FILE
from pipeline_src.runs.spec import (
    DONE_FILE,
    TrainSpec,
    done_fingerprint,
    is_trained,
    saved_progress,
)
from pipeline_src.submit.environment import freeze_code
from pipeline_src.submit.explain import explain_end, first_cause
from pipeline_src.submit.failures import read_failures
from pipeline_src.submit.interrupt import InterruptedBySignal, interruptible
from pipeline_src.submit.peers import StuckPeers
from pipeline_src.submit.progress import StallWatch, TrainingProgress
from pipeline_src.submit.request import JobRequest
from pipeline_src.submit.slurm import END_TIMEOUT_SECONDS, UNREACHABLE, JobState
from pipeline_src.submit.state import JobRecord
from pipeline_src.submit.submission import find_running, submit
from pipeline_src.system.executor import pick_cluster

CODE_FOLDER = "code"
POLL_SECONDS = {"local": 0.5, "slurm": 5.0}
# Jobs in a row that may die without a new checkpoint before someone has to look.
MAX_FAILED_ATTEMPTS = 2
# How long files of an ended job may take to show: after a failure, and after a success.
FILES_TIMEOUT_SECONDS = (5.0, 60.0)
logger = logging.getLogger(__name__)


def run_and_wait(
    spec: TrainSpec, config: SubmitConfig, request: JobRequest, *, threads: int
) -> Path:
    """Train ``spec`` as a job and return its done.json.

    A live job for the same spec, left by an earlier call that was killed, is waited for instead.
    A job that dies of something else than its own error is followed by another one, which continues
    from the newest checkpoint.

    Args:
        threads: of the rule, shared by the ranks of a node unless the request says otherwise.
    Raises:
        ConfigError: the request does not fit the recipe or the cluster.
        TrainingError: the training failed, was cancelled, or keeps dying; says why.
    """
    settings = {"stall_minutes": config.stall_minutes, "loggers": config.loggers}
    spec = spec.model_copy(update={"num_threads": request.threads(threads), **settings})
    spec.run_dir.mkdir(parents=True, exist_ok=True)
    cluster = pick_cluster(config.cluster)
    record = _join(spec, cluster)
    step, failed_attempts = saved_progress(spec.run_dir, spec.fingerprint())[0], 0
    if record is None and is_trained(spec.run_dir, spec.fingerprint()):
        cluster, request = "local", JobRequest()  # trained to its end: only done.json is missing
    # Every job of this call runs the same code, whatever is edited meanwhile.
    freeze = cache(partial(freeze_code, spec.run_dir / CODE_FOLDER))
    while True:
        record = record or submit(
            spec, request, cluster, freeze=freeze, without_gpu=config.without_gpu
        )
        with interruptible():
            state = _wait(spec, record, config)
        if done := _finished(spec):
            return done
        reached = saved_progress(spec.run_dir, spec.fingerprint())[0]
        failed_attempts = 0 if reached > step else failed_attempts + 1
        if not _should_resubmit(record, state, failed_attempts):
            raise TrainingError(explain_end(record, state))
        logger.warning(
            "job %s ended as %s without a result; continuing from step %d. %s",
            record.job_id, state, reached, first_cause(record),
        )  # fmt: skip
        record, step = None, reached


def _join(spec: TrainSpec, cluster: str) -> JobRecord | None:
    record = find_running(spec, cluster)
    if record is None:
        return None
    if record.fingerprint == spec.fingerprint() and not record.stopping:
        logger.info("joined %s job %s, which is running", record.cluster, record.job_id)
        return record
    if not record.stopping:
        logger.warning("stopping job %s of an earlier configuration", record.job_id)
        record.stop(spec.run_dir)
    _wait_for_end(record)
    return None


def _wait(spec: TrainSpec, record: JobRecord, config: SubmitConfig) -> JobState:
    """Show progress until the job has ended; an interrupt stops it or leaves it, and says which.

    Raises:
        TrainingError: it was interrupted; says what became of the job.
    """
    progress = TrainingProgress(f"{spec.stage} {spec.run_dir}", spec.run_dir)
    stall = StallWatch(spec.run_dir, spec.run_dir / METRICS_LOG_FILE, config.stall_minutes)
    peers = StuckPeers(record)
    state = record.state()
    try:
        while state.is_alive:
            is_running = state.name == "RUNNING"
            stalled = stall.look(record.log(), is_running=is_running)
            progress.show(waiting=stalled if is_running else str(state))
            peers.look()
            time.sleep(config.poll_seconds or POLL_SECONDS[record.cluster])
            state = record.state()
            if state.name == UNREACHABLE and _finished(spec):
                break
        _wait_for_files(spec, record, state)
    except InterruptedBySignal as interrupt:
        raise TrainingError(_interrupted(spec, record, config, interrupt)) from None
    finally:
        progress.close()
    return state


def _wait_for_files(spec: TrainSpec, record: JobRecord, state: JobState) -> None:
    """Wait for the last files of another node, which a network file system may show late."""
    if record.cluster == "local" or state.name == "CANCELLED":
        return
    deadline = time.monotonic() + FILES_TIMEOUT_SECONDS[state.name == "COMPLETED"]
    while not _finished(spec) and time.monotonic() < deadline:
        list(Path(record.folder).iterdir())  # makes a client of a network file system look anew
        if read_failures(Path(record.folder), record.job_id):
            return
        time.sleep(1)


def _interrupted(
    spec: TrainSpec, record: JobRecord, config: SubmitConfig, interrupt: InterruptedBySignal
) -> str:
    """Stop or leave the job; Ctrl-C is the user's choice, a lost connection is not."""
    leave = config.on_interrupt == "leave" or not interrupt.is_deliberate
    if leave and record.cluster == "slurm":
        return (
            f"{interrupt}: Slurm job {record.job_id} keeps running. Run the same command to join "
            f"it, or `scancel {record.job_id}` to end it"
        )
    if not record.stop(spec.run_dir):
        return f"{interrupt}: job {record.job_id} could not be told to end: scancel {record.job_id}"
    return (
        f"{interrupt}: {record.cluster} job {record.job_id} saves its state and ends. The same "
        "command continues"
    )


def _finished(spec: TrainSpec) -> Path | None:
    done = spec.run_dir / DONE_FILE
    same = done.is_file() and done_fingerprint(done) == spec.fingerprint()
    return done if same else None


def _should_resubmit(record: JobRecord, state: JobState, failed_attempts: int) -> bool:
    """Return whether another job could get further: not after an error of its own or scancel."""
    failures = read_failures(Path(record.folder), record.job_id)
    failed_by_itself = any(failure.cause == "own" for failure in failures)
    is_cancelled = state.name == "CANCELLED"
    return not (failed_by_itself or is_cancelled) and failed_attempts < MAX_FAILED_ATTEMPTS


def _wait_for_end(record: JobRecord) -> None:
    deadline = time.monotonic() + END_TIMEOUT_SECONDS
    while record.state().is_alive:
        if time.monotonic() > deadline:
            if record.cluster == "local":
                logger.warning("local job %s does not end; killed", record.job_id)
                return record.kill()
            raise TrainingError(
                f"{record.cluster} job {record.job_id} does not end; stop it, then run again"
            )
        time.sleep(POLL_SECONDS[record.cluster])
    return None
