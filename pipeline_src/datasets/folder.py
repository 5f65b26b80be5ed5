"""A folder of videos or recordings as rows of a clip list: files, classes, split folders.

Understood are split folders (train, val, test), class folders, one inside the other in either
order, and files alone. What fits no row is left out with the reason; nothing is guessed from
names but what ``recordings`` says.
"""

import hashlib
import re
import stat
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline_src.datasets.folder_walk import walk
from pipeline_src.datasets.names import is_name
from pipeline_src.datasets.sources import source_kind, source_problem
from pipeline_src.errors import ManifestError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
}
VIDEO = (
    "3g2 3gp asf avi dv flv gif ivf m2ts m4v mkv mov mp4 mpeg mpg mts mxf nut ogg ogv rm rmvb ts "
    "vob webm wmv wtv"
)
SOUND = "aac ac3 aif aiff amr au caf dts eac3 flac m4a mp2 mp3 oga opus tta voc w64 wav wma wv"
SUFFIXES = frozenset(f".{name}" for name in re.findall(r"\w+", f"{VIDEO} {SOUND}"))
# Of a folder without class folders: the class list needs an entry, the clips carry no label.
NO_CLASS = "unlabelled"
SLUG_CHARS = 60
HASH_CHARS = 8


class FolderFile(NamedTuple):
    """A file that becomes a clip.

    Args:
        path: below the folder, with /. split: empty where no folder names it.
        label: name of its class folder, NO_CLASS where there are none.
        inner: folders below that of its class.
    """

    path: str
    split: str
    label: str
    inner: str


@dataclass
class Folder:
    """What a folder holds.

    Args:
        excluded: path and reason of each recording that is no clip and each folder not read.
        others: suffix -> number of files that are no recordings.
    """

    files: list[FolderFile] = field(default_factory=list)
    excluded: list[tuple[str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    has_splits: bool = False

    @property
    def labels(self) -> list[str]:
        """The classes, sorted."""
        return sorted({file.label for file in self.files})


def read_folder(root: Path, *, split_folders: bool = True) -> Folder:
    """List every recording below ``root`` with its class and, where folders name it, its split.

    Args:
        split_folders: False takes train, val and test for classes like any other.
    Raises:
        ManifestError: no such folder, nothing in it, or split folders beside others.
    """
    if not root.is_dir():
        what = "is a file; name the folder that it lies in" if root.exists() else "no such folder"
        raise ManifestError(
            f"{root}: {what}" + ("" if root.exists() else "; name the one of your recordings")
        )
    folder = Folder()
    found = walk(root)
    paths: list[PurePosixPath] = []
    for path in map(PurePosixPath, found.files):
        if path.suffix.lower() not in SUFFIXES:
            folder.others[path.suffix.lower() or "without a suffix"] += 1
        elif problem := _name_problem(str(path)):
            folder.excluded.append((str(path), problem))
        else:
            paths.append(path)
    paths = _once(root, paths, folder.excluded)
    if not paths:
        raise ManifestError(_nothing_found(root, folder, found.excluded))
    depth = _common_depth(paths, split_folders)
    level = _split_level(root, [path.parts[depth:-1] for path in paths], split_folders)
    folder.has_splits = level is not None
    _label(folder, paths, depth, level)
    folder.excluded += found.excluded
    return folder


def _nothing_found(root: Path, folder: Folder, skipped: list[tuple[str, str]]) -> str:
    found = ", ".join(f"{name} {count}" for name, count in folder.others.most_common(5))
    excluded = [f"{path!r}: {why}" for path, why in [*folder.excluded, *skipped][:3]]
    return (
        f"{root}: no recording in it"
        + (f"; found {found}" if found else "")
        + (f"; left out: {'; '.join(excluded)}" if excluded else "")
        + f"; accepted suffixes: {VIDEO} {SOUND}"
    )


def _once(
    root: Path, paths: list[PurePosixPath], excluded: list[tuple[str, str]]
) -> list[PurePosixPath]:
    """Return every file under one name alone, rather its own than that of a link to it."""
    names: dict[tuple[int, int], PurePosixPath] = {}
    kept = set()
    for path in sorted(paths, key=lambda path: (root / path).is_symlink()):
        try:
            status = (root / path).stat()
        except OSError:  # a link to nowhere: listed, and refused by its header
            kept.add(path)
            continue
        if not stat.S_ISREG(status.st_mode):
            excluded.append((str(path), "no regular file"))
            continue
        first = names.setdefault((status.st_dev, status.st_ino), path)
        if first is path:
            kept.add(path)
        else:
            excluded.append((str(path), f"the same file as {str(first)!r}, which is listed"))
    return [path for path in paths if path in kept]


def _name_problem(path: str) -> str:
    """Return why a path cannot stand in a clip list; empty where it can."""
    if not is_name(path):
        return "its name holds a line break, another control character or no UTF-8; rename it"
    if source_kind(path) == "member":
        return "in a list its name means a member of an archive; rename it"
    return source_problem(path)


def _common_depth(paths: list[PurePosixPath], split_folders: bool) -> int:
    """Count the leading folders that all files share and that name neither split nor class."""
    depth = 0
    while True:
        heads = {path.parts[depth : depth + 1] for path in paths}
        is_inner = all(len(path.parts) > depth + 1 for path in paths)
        if len(heads) > 1 or not is_inner:
            return depth
        ((name,),) = heads
        if split_folders and name.lower() in SPLIT_FOLDERS:
            return depth
        depth += 1


def _split_level(root: Path, folders: list[tuple[str, ...]], split_folders: bool) -> int | None:
    """Find which folder names the split: the first (0), that in each class folder (1), or none.

    Raises:
        ManifestError: some of the first folders name a split, others do not.
    """
    if not split_folders:
        return None
    for level in (0, 1):
        is_split = [
            len(parts) > level and parts[level].lower() in SPLIT_FOLDERS for parts in folders
        ]
        if all(is_split):
            return level
        if any(is_split) and level == 0:
            inside = "/".join(folders[is_split.index(True)])
            beside = "/".join(folders[is_split.index(False)]) or "files in the folder itself"
            raise ManifestError(
                f"{root}: {inside} is a split, {beside} is not; put every recording into a split "
                "folder, or take these names for classes with --splits hash"
            )
    return None


def _label(folder: Folder, paths: list[PurePosixPath], depth: int, level: int | None) -> None:
    """Add the files with their classes; those beside class folders are left out."""
    rows = []
    for path in paths:
        parts = list(path.parts[depth:-1])
        split = "" if level is None else SPLIT_FOLDERS[parts.pop(level).lower()]
        rows.append((path, split, parts))
    has_classes = any(parts for _, _, parts in rows)
    for path, split, parts in rows:
        if has_classes and not parts:
            folder.excluded.append((str(path), "lies beside the class folders, not in one"))
            continue
        label = parts[0] if has_classes else NO_CLASS
        folder.files.append(FolderFile(str(path), split, label, "/".join(parts[1:])))


def safe_name(text: str) -> str:
    """Return the ASCII letters, digits and _ nearest to ``text``; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")


def safe_id(text: str) -> str:
    """Return an id that is safe everywhere: ``text`` itself, or one like it with a hash."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) and len(text) <= SLUG_CHARS:
        return text
    return hashed_id(text, text)


def hashed_id(shown: str, named: str) -> str:
    """Return a likeness of ``shown`` with a hash of ``named`` that keeps ids apart."""
    digest = hashlib.sha256(named.encode()).hexdigest()[:HASH_CHARS]
    return f"{safe_name(shown)[:SLUG_CHARS] or 'clip'}-{digest}"


def clip_id(path: str) -> str:
    """Return the id of a file's clip; files of one name in other folders or forms differ."""
    return hashed_id(str(PurePosixPath(path).with_suffix("")), path)
