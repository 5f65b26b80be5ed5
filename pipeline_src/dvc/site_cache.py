"""DVC keeps its state in a folder of one's own.

DVC unpickles what lies in its site cache (diskcache, CVE-2025-69872), and makes that folder open to
everybody where it is missing, by default below /var/tmp. ``.dvc/config`` names a folder that comes
with the checkout, which holds for calls from its root; this names one in the user's cache in
``.dvc/config.local``, which holds for calls from anywhere. ``DVC_SITE_CACHE_DIR`` is above both.
"""

import os
import stat
from pathlib import Path

from pipeline_src.dvc.tools import run_tool
from pipeline_src.errors import StageError
from pipeline_src.system.own_folder import make_own_folder, what_is_foreign

VARIABLE = "DVC_SITE_CACHE_DIR"
KEY = "core.site_cache_dir"
SHIPPED = ".dvc-site"
REPOS = "repo"  # what DVC makes in it, with a folder for every checkout


def use_own_site_cache() -> Path:
    """Name a folder in the user's cache, unless another one was named; run in the checkout's root.

    Raises:
        StageError: others could write there.
    """
    path = site_cache(Path())
    if VARIABLE in os.environ or path != Path(SHIPPED).absolute():
        return path
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(caches).expanduser().absolute() / "av-pipeline" / "dvc"
    for folder in (path, path / REPOS):
        if wrong := make_own_folder(folder):
            raise StageError(f"{folder}: {wrong}; delete it, or name another one in {VARIABLE}")
    run_tool("dvc", "config", "--quiet", "--local", KEY, str(path))
    return path


def site_cache(root: Path) -> Path:
    """Return where DVC keeps its state when it is called in ``root``."""
    named = os.environ.get(VARIABLE) or run_tool("dvc", "--cd", str(root), "config", KEY).strip()
    return (root / named).absolute()  # not resolved: a link is refused


def what_is_wrong(path: Path) -> str:
    """Say why somebody else could have DVC run code from its site cache; empty where nobody can."""
    for folder in (path, path / REPOS):
        if not folder.exists():
            return f"{folder} is missing, and DVC would make it open to everybody"
        if wrong := what_is_foreign(folder):
            return f"{folder}: {wrong}"
        if not folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return ""  # nobody else comes in, so what DVC makes below may have any mode
    for folder in (path / REPOS).iterdir():
        if folder.is_dir() and (wrong := what_is_foreign(folder)):
            return f"{folder}: {wrong}"
    return ""
