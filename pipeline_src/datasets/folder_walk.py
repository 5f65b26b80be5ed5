"""The files below a folder, each folder once: real folders first, then what links lead to."""

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from pipeline_src.errors import ManifestError

# Kept by systems and file servers beside the files of a user, in lower case.
SYSTEM_FOLDERS = frozenset(
    (
        "@eadir",
        "@tmp",
        "@recycle",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "__macosx",
        "lost+found",
        "system volume information",
    )
)
AROUND = "leads back to the folder that is listed, or to one around it"


@dataclass
class Walked:
    """What lies below a folder.

    Args:
        files: paths below it, with /. excluded: path and reason of each folder that is not read.
        real: where a folder really lies -> its path here.
    """

    files: list[str] = field(default_factory=list)
    excluded: list[tuple[str, str]] = field(default_factory=list)
    real: dict[str, str] = field(default_factory=dict)


def walk(root: Path) -> Walked:
    """Find the files below ``root``, without hidden ones and those of the system.

    Folders that are there themselves go before links to them, which would take the files away from
    their own class.

    Raises:
        ManifestError: a folder cannot be read.
    """
    walked = Walked()
    waiting = deque([root])
    while waiting:
        waiting.extend(_walk_without_links(root, waiting.popleft(), walked))
    return walked


def _walk_without_links(root: Path, top: Path, walked: Walked) -> list[Path]:
    """Add what lies below ``top``; return the links to folders that were met.

    Raises:
        ManifestError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ManifestError(f"{error.filename}: cannot be read: {error.strerror}") from None

    links = []
    for folder, inner, names in os.walk(top, onerror=refuse):
        here = Path(folder).relative_to(root)
        if reason := _seen_problem(root, folder, walked):
            walked.excluded.append((here.as_posix(), reason))
            inner.clear()
            continue
        walked.real[os.path.realpath(folder)] = here.as_posix()
        unread = {name: reason for name in sorted(inner) if (reason := _name_reason(name))}
        walked.excluded += [((here / name).as_posix(), why) for name, why in unread.items()]
        read = sorted(set(inner) - set(unread))
        links += [Path(folder, name) for name in read if Path(folder, name).is_symlink()]
        inner[:] = [name for name in read if not Path(folder, name).is_symlink()]
        walked.files += [(here / name).as_posix() for name in sorted(names) if name[0] != "."]
    return links


def _name_reason(name: str) -> str:
    if name.lower() in SYSTEM_FOLDERS:
        return "a folder of the system"
    return "a hidden folder" if name.startswith(".") else ""


def _seen_problem(root: Path, folder: str, walked: Walked) -> str:
    """Return why a folder is not read at this place; empty where it is."""
    real, own = os.path.realpath(folder), os.path.realpath(root)
    if real in walked.real:
        listed = walked.real[real]
        return f"the same folder as {listed!r}, which is listed" if listed != "." else AROUND
    return AROUND if own != real and Path(own).is_relative_to(real) else ""
