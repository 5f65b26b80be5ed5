"""Dry runs of Snakemake in one process each, without starting Python and importing for every one.

Half of the seconds of a dry run are Snakemake's own imports. A process that has made them forks for
each command; what the Snakefile imports is imported anew, from the copy in which it lies.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

FORKING = """
import json, os, sys
from snakemake.cli import main
import pydantic, smart_open, snakemake.report  # what a dry run imports later
sys.path[0] = os.path.dirname(sys.executable)  # as for the program: not the working folder
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["env"])
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, number)
        sys.argv = asked["command"]
        status = 2
        try:
            main(sys.argv[1:])
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@cache
def _planner() -> subprocess.Popen[str]:
    """The process that forks; it ends when this one does, at the end of its input."""
    return subprocess.Popen(
        [sys.executable, "-c", FORKING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tempfile.gettempdir(),
    )


def dry_run(
    command: tuple[str, ...], folder: Path, env: dict[str, str], timeout_seconds: float
) -> tuple[int, str]:
    """Run a ``snakemake -n``; its exit status and what it printed.

    Raises:
        TimeoutError: it did not end.
    """
    planner = _planner()
    assert planner.stdin is not None
    assert planner.stdout is not None
    with tempfile.TemporaryDirectory() as own:
        log = Path(own) / "log"
        asked = {"command": command, "folder": str(folder), "env": env, "log": str(log)}
        planner.stdin.write(json.dumps(asked) + "\n")
        planner.stdin.flush()
        is_ready = select.select([planner.stdout], [], [], timeout_seconds)[0]
        status = planner.stdout.readline() if is_ready else ""
        if not status:  # it hangs, or the planner died
            with suppress(ProcessLookupError):
                os.killpg(planner.pid, signal.SIGKILL)  # the dry run, too
            _planner.cache_clear()
            raise TimeoutError(f"{folder}: no answer to {' '.join(command)}")
        return int(status), log.read_text(encoding="utf-8")
