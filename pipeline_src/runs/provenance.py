"""Where a result comes from: git commit, package versions, machine."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline_src.system.checkout import CHECKOUT, CONFIG_FILE
from pipeline_src.system.cores import num_cores

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
COMMIT_FILE = "COMMIT"  # beside a copy of the package that was frozen for a job
# Results carry their whole configuration, so local changes in these leave the commit as it is.
NOT_CODE = (CONFIG_FILE, "dvc.yaml", "dvc.lock")
CODE = ("Snakefile", "pipeline_src", "workflow")
CODE_SUFFIXES = (".py", ".smk")
UNKNOWN_COMMIT = "unknown"


@cache
def git_commit() -> str:
    """Return HEAD of the repository that holds this code, or ``unknown`` where none does.

    ``-dirty`` is added where code differs from the commit, or a part of it is in no commit.
    """
    frozen = CHECKOUT / COMMIT_FILE
    if frozen.is_file():
        return frozen.read_text(encoding="utf-8")
    head, tracked = _git("rev-parse", "HEAD"), _tracked_code()
    if not head or not tracked:
        return UNKNOWN_COMMIT
    excluded = [f":(exclude){name}" for name in NOT_CODE]
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
    return head + ("-dirty" if changed or _code_files() - tracked else "")


def _tracked_code() -> set[str]:
    """List files of code that the repository around them has; none of an unrelated one."""
    return set(_git("ls-files", "-z", "--", *CODE).split("\0")) - {""}


def _code_files() -> set[str]:
    """Return files of code that are here, ignored ones included."""
    found = [path for name in CODE for path in (CHECKOUT / name).rglob("*")]
    return {path.relative_to(CHECKOUT).as_posix() for path in found if path.suffix in CODE_SUFFIXES}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    # In a hook of another repository these would name that one.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False, env=env
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of Python, of packages that decide data and numbers, and of ffmpeg."""
    from pipeline_src.transcode.ffmpeg import ffmpeg_version  # brings the program itself

    packages = {name: _package_version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, "ffmpeg": ffmpeg_version()}


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # yt-dlp is needed for video sites alone
        return "absent"


def machine() -> dict[str, Any]:
    """Return CPU model, cores and GPU names, for benchmark records."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu_model(), "cores": num_cores(), "gpus": gpus}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
