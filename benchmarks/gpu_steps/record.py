"""What was measured, written after every step, so that a lent machine may end at any time."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from pipeline_src.runs.provenance import git_commit, machine
from pipeline_src.system.atomic import write_json

ROOT = Path(__file__).resolve().parents[2]
CODE = ("pipeline_src", "benchmarks")
# Figures of two devices, versions or states of the code never stand in one record.
IDENTITY = ("device", "torch", "git_commit", "code_sha256", "quick")
MAX_ATTEMPTS = 2


@dataclass
class Record:
    """Results by step, beside what they were measured on and with."""

    path: Path
    header: dict[str, Any]
    steps: dict[str, dict[str, Any]]

    @classmethod
    def begin(cls, path: Path, header: dict[str, Any]) -> "Record":
        """Continue the record of the same code and device; another one is set aside."""
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if known and any(known.get(key) != header[key] for key in IDENTITY):
            path.rename(path.with_name(f"{path.stem}.before{path.suffix}"))
            known = {}
        return cls(path, header, known.get("steps", {}))

    def result(self, name: str) -> Mapping[str, Any]:
        """The figures of a step; empty where it has none."""
        return self.steps.get(name, {}).get("result", {})

    def is_due(self, name: str) -> bool:
        """Whether a step has no figures and has not failed as often as it may."""
        step = self.steps.get(name, {})
        return "result" not in step and step.get("attempts", 0) < MAX_ATTEMPTS

    def begun(self, name: str) -> None:
        """Note a step before it runs: one that kills the process is not tried for ever."""
        attempts = self.steps.get(name, {}).get("attempts", 0) + 1
        self.write(name, {"attempts": attempts, "error": "the process ended within this step"})

    def write(self, name: str, step: dict[str, Any], **header: Any) -> None:
        """Keep what is known of a step, and further entries beside the steps."""
        self.header |= header
        self.steps[name] = self.steps.get(name, {}) | step
        if "result" in step:
            self.steps[name].pop("error", None)
        write_json(self.path, {**self.header, "steps": self.steps})


def describe(device: torch.device, *, quick: bool, commit: str) -> dict[str, Any]:
    """What figures depend on, for the head of the record."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "driver": _driver() if on_gpu else "",
        "memory_gb": torch.cuda.mem_get_info(device)[1] / 1e9 if on_gpu else 0,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": machine(),
        "git_commit": commit or git_commit(),
        "code_sha256": _code_sha256(),
        "quick": quick,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("TORCH", "PYTORCH"))},
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.split("\n")[0].strip()


def _code_sha256() -> str:
    """Of the code that is measured: a bare copy has no commit."""
    digest = hashlib.sha256()
    for path in sorted(path for name in CODE for path in (ROOT / name).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
