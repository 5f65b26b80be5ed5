"""What a submitted job may inherit: its own code, and nothing of the job that submits it."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline_src.runs.provenance import COMMIT_FILE, git_commit
from pipeline_src.system.atomic import files_sha256, write_text

PACKAGE = Path(__file__).resolve().parents[1]
# A job started inside another one would be pinned to that one's cores, look for its pickles, and
# read its rank from it. SLURM_CONF names the cluster and has to stay.
LEAKING_PREFIXES = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "SNAKEMAKE_")
LEAKING_NAMES = {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"}
KEPT = {"SLURM_CONF"}
PRIVATE = 0o600  # what lies in submitit's folder is executed, or says what was


@contextmanager
def job_environment(code: Path) -> Iterator[None]:
    """Give this process the environment that a job should find; restore it at the end.

    Args:
        code: folder that holds the job's ``pipeline_src``.
    """
    before = dict(os.environ)
    for name in before:
        leaks = name.startswith(LEAKING_PREFIXES) or name in LEAKING_NAMES
        if leaks and name not in KEPT:
            del os.environ[name]
    others = [path for path in before.get("PYTHONPATH", "").split(os.pathsep) if path]
    others = [path for path in others if Path(path).resolve() != PACKAGE.parent]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(code.absolute()), *others])
    os.environ["PYTHONSAFEPATH"] = "1"  # else the working folder's edited code would come first
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def ignore_terminal_signals() -> Iterator[None]:
    """Let child processes ignore Ctrl-C and a closed terminal: the waiter decides."""
    numbers = (signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def freeze_code(parent: Path) -> Path:
    """Copy this package to ``parent/<hash>`` and return that folder; older copies are removed.

    A job that waits in the queue then runs the code that it was submitted with, whatever is edited
    meanwhile.
    """
    sources = sorted(path for path in PACKAGE.rglob("*") if path.is_file())
    sources = [path for path in sources if "__pycache__" not in path.parts]
    folder = parent / files_sha256(sources, PACKAGE)[:12]
    if folder.is_dir():
        return folder
    temporary = parent / f".{folder.name}.{os.getpid()}.part"
    shutil.rmtree(parent, ignore_errors=True)
    try:
        for path in sources:
            target = temporary / PACKAGE.name / path.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        write_text(temporary / COMMIT_FILE, git_commit())
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    temporary.rename(folder)
    return folder
