"""Ask DVC and Snakemake through their command lines; both run in the checkout's root."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_src.errors import StageError

TAIL_LINES = 12
# Set for the calls that reconcile records themselves.
RECONCILING_VARIABLE = "PIPELINE_SETTLING"
# What DVC says while another of its commands works in the checkout.
BUSY = ("Unable to acquire lock", "is being blocked by")


def run_tool(*command: str) -> str:
    """Return what a command printed on stdout; no profile of a cluster is in force.

    Raises:
        StageError: it failed; the message ends with the last lines that it printed.
    """
    env = {k: v for k, v in os.environ.items() if k != "SNAKEMAKE_PROFILE"}
    env[RECONCILING_VARIABLE] = "1"
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    except FileNotFoundError:
        raise StageError(f"{command[0]} is not on PATH; run `make setup`") from None
    if result.returncode:
        tail = "\n  ".join((result.stderr + result.stdout).strip().splitlines()[-TAIL_LINES:])
        is_busy = any(words in tail for words in BUSY)
        hint = "; another DVC command works in this checkout, wait for it" if is_busy else ""
        raise StageError(f"`{' '.join(command[:6])}` failed{hint}:\n  {tail}")
    return result.stdout


def dvc_changes() -> dict[str, list[str]]:
    """Map each stage to what differs from dvc.lock; stages that agree with it are left out."""
    status: dict[str, Any] = json.loads(run_tool("dvc", "status", "--json") or "{}")
    return {name: _describe(changes) for name, changes in status.items()}


def _describe(changes: Sequence[Any]) -> list[str]:
    found = []
    for change in changes:
        if isinstance(change, str):
            found.append(change)
            continue
        for files in change.values():
            for path, state in files.items():
                keys = ", ".join(state) if isinstance(state, dict) else f"{path} {state}"
                found.append(keys)
    return found


def pending_files(target: str) -> set[str]:
    """Return files below ``target`` that Snakemake would make again."""
    table = run_tool("snakemake", "--summary", "--", target)
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    return {row[0] for row in rows if row[-1] == "update pending"}
