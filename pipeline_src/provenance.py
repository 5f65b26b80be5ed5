"""Where a result comes from: git commit, package versions, machine."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline_src.cores import num_cores
from pipeline_src.media.ffmpeg import ffmpeg_version

PACKAGES = (
    "torch",
    "torchaudio",
    "torchvision",
    "timm",
    "snakemake",
    "webdataset",
    "numpy",
    "av",
    "yt-dlp",
)
ROOT = Path(__file__).resolve().parents[1]
COMMIT_FILE = "COMMIT"  # beside a copy of the package that was frozen for a job
# Results carry their whole configuration, so local changes in these leave the commit as it is.
NOT_CODE = ("config/config.yaml", "dvc.yaml", "dvc.lock")


@cache
def git_commit() -> str:
    """HEAD of the checkout, ``-dirty`` added where tracked code differs, or ``unknown``."""
    frozen = ROOT / COMMIT_FILE
    if frozen.is_file():
        return frozen.read_text(encoding="utf-8")
    head = _git("rev-parse", "HEAD")
    if not head:
        return "unknown"
    excluded = [f":(exclude){name}" for name in NOT_CODE]
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
    return head + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


@cache
def package_versions() -> dict[str, str]:
    """Python, the packages that decide data and numbers, and the ffmpeg that decodes."""
    packages = {name: _package_version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, "ffmpeg": ffmpeg_version()}


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # yt-dlp is needed for video sites alone
        return "absent"


def machine() -> dict[str, Any]:
    """CPU model, cores and GPU names, for benchmark records."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu_model(), "cores": num_cores(), "gpus": gpus}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
