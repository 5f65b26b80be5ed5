"""Folders whose content is trusted later: the user's own, closed to others, no links.

What lies in such a folder is read back, or run (DVC's site cache holds pickles), so nobody else may
write there. Groups count as others: who is in one may change.
"""

import os
import stat
from pathlib import Path

OWN_MODE = 0o700
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make_own_folder(path: Path) -> str:
    """Make a folder that only its user may enter, unless it is there; what is wrong with it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=OWN_MODE, exist_ok=True)
    except FileExistsError:
        pass  # a file, or a link to nowhere: said below
    except OSError as error:
        return f"it cannot be made: {error.strerror}"
    return what_is_foreign(path)


def what_is_foreign(path: Path) -> str:
    """Say why somebody else could change what lies in a folder; empty where nobody can."""
    try:
        status = path.lstat()
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"
    if stat.S_ISLNK(status.st_mode):
        return f"it is a link to {path.readlink()}"
    if not stat.S_ISDIR(status.st_mode):
        return "it is no folder"
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, not to you ({os.geteuid()})"
    if status.st_mode & WRITABLE_BY_OTHERS:
        return f"others may write there (mode {stat.S_IMODE(status.st_mode):o})"
    return _foreign_parent(path)


def _foreign_parent(path: Path) -> str:
    """Return a folder on the way in which anybody may put another folder in this one's place."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"anybody may rename it: {parent} has mode {stat.S_IMODE(mode):o}"
    return ""
