"""Logging of one workflow job: everything to its log file, user errors plainly to the terminal."""

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline_src.errors import PipelineError, describe_disk_full, is_disk_full
from pipeline_src.system.progress import LOGGER_NAME as PROGRESS_LOGGER
from pipeline_src.system.url_secrets import hide_secrets

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
RECORD = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) \S+: ", re.MULTILINE)
DEFECT = "the job failed"
INTERRUPTED_STATUS = 130  # what a shell says of a process that Ctrl-C ended
TERMINATED_STATUS = 143  # and of one that SIGTERM ended
CLEARING_SECONDS = 10.0  # of the 30 that Slurm leaves a job
TERMINATED = "stopped by SIGTERM, as at a time limit; the same command continues"


class _TerminatedError(BaseException):
    """SIGTERM has come; no handler of errors on the way may take it for one."""


class _Formatter(logging.Formatter):
    """Write no password or token of an address, in no message and no traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record))


@contextmanager
def log_to_file(path: str) -> Iterator[None]:
    """Send all logging to ``path``; a defect ends up there with its traceback.

    A ``PipelineError`` ends the process with its message alone; anything else is a defect and
    raises.
    """
    logging.raiseExceptions = False  # a log that cannot be written must not hide why
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(_Formatter(FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    progress = logging.StreamHandler()  # people watch it on the terminal too
    logging.getLogger(PROGRESS_LOGGER).addHandler(progress)
    logging.captureWarnings(capture=True)
    try:
        with _sigterm_raised():
            yield
    except KeyboardInterrupt:  # was asked for, so no traceback; the workflow says what comes next
        sys.exit(INTERRUPTED_STATUS)
    except _TerminatedError:
        sys.exit(TERMINATED_STATUS)
    except PipelineError as error:
        logging.getLogger(__name__).error("%s: %s", type(error).__name__, error)
        sys.exit(f"\n{type(error).__name__}: {hide_secrets(str(error))}\n(log: {path})")
    except Exception as error:
        if is_disk_full(error):
            sys.exit(f"\nStageError: {describe_disk_full(error, Path(path).parent)}")
        logging.getLogger(__name__).exception(DEFECT)
        raise
    finally:
        logging.getLogger(PROGRESS_LOGGER).removeHandler(progress)
        root.removeHandler(handler)
        handler.close()


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that temporary files go and the log says why.

    What waits for others, as for hosts that do not answer, is ended after some seconds. The first
    signal counts: at a time limit Slurm sends two, a tenth of a second apart.
    """
    owner = os.getpid()
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> None:
        if os.getpid() != owner:  # a forked process, which has no log of its own
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        # Not SIG_IGN: what is started while clearing up would ignore it for ever.
        signal.signal(signal.SIGTERM, lambda *_: None)
        logging.getLogger(__name__).error(TERMINATED)
        end = threading.Timer(CLEARING_SECONDS, os._exit, [TERMINATED_STATUS])
        end.daemon = True
        end.start()
        raise _TerminatedError

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def last_error(path: Path) -> str:
    """Read the error that a job's log ends with; empty where it has none or cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    starts = list(RECORD.finditer(text))
    errors = [i for i, start in enumerate(starts) if start["level"] == "ERROR"]
    if not errors:
        return ""
    ends = [start.start() for start in starts[1:]] + [len(text)]
    message = text[starts[errors[-1]].end() : ends[errors[-1]]].strip()
    if message.startswith(DEFECT):  # a traceback follows; its last line says what it was
        return f"{message.splitlines()[-1]} (a defect; the traceback is in {path})"
    return message
