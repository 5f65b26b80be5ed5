"""Which files are pieces of one recording, and splits that never cut one: 80, 10 and 10 percent.

Splits go by the sha256 of the recording's name, class by class: the same folder always gives the
same splits, and every class has its share of each as far as it has recordings.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType

from pipeline_src.datasets.folder import FolderFile
from pipeline_src.errors import ConfigError

SHARE = 0.1
# Split -> recordings from which on it gets one at least.
HELD_OUT = {"test": 2, "val": 5}
# With fewer, folders below a class are no recordings but a way of keeping files.
MIN_INNER_FOLDERS = 3
YOUTUBE_PIECE = r"(?P<id>[\w-]{11})_\d+(?:\.\d+)?(?:_\d+(?:\.\d+)?)?"  # VGGSound, AudioSet
PIECES = (
    YOUTUBE_PIECE,
    r"(?P<id>.+)_\d{6}_\d{6}",  # Kinetics: start and end
    r"(?P<id>.+_g\d+)_c\d+",  # UCF-101: group and clip
    r"(?P<id>.+?)[ _.-]+\(?(?:part|pt|piece|chunk|seg|segment|scene|shot|cut)[ _.-]*\d+\)?",
)
PIECE = [re.compile(pattern, re.IGNORECASE) for pattern in PIECES]


def name_recordings(
    files: Sequence[FolderFile], pattern: str = "", copies: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Map each file's path to the recording that it is, or is a piece of.

    Args:
        copies: path -> that of another file with the same bytes; their recordings are one.
        pattern: regular expression whose first group, in the file's path, names the recording;
            empty = by the names of known data sets, ``_part2`` and its like, and folders below a
            class where each class has several.
    Raises:
        ConfigError: the pattern is none, or has no group.
    """
    given = [_compile(pattern)] if pattern else []
    inner: dict[str, set[str]] = {}
    for file in files:
        inner.setdefault(file.label, set()).add(file.inner)
    by_folder = min(len(names - {""}) for names in inner.values()) >= MIN_INNER_FOLDERS
    names = {file.path: _recording(file, given, by_folder) for file in files}
    return _joined(names, copies)


def _joined(names: Mapping[str, str], copies: Mapping[str, str]) -> dict[str, str]:
    """Join recordings that have a file in common, under the name that sorts first."""
    first: dict[str, str] = {}

    def find(name: str) -> str:
        while name in first:
            name = first[name]
        return name

    for path, other in copies.items():
        one, two = sorted((find(names[path]), find(names[other])))
        if one != two:
            first[two] = one
    return {path: find(name) for path, name in names.items()}


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--recording {pattern!r} is no regular expression: {error}") from None
    if not compiled.groups:
        raise ConfigError(
            f"--recording {pattern!r} has no group: put the part of the path that names the "
            "recording into parentheses, e.g. '(.+)_[0-9]+'"
        )
    return compiled


def _recording(file: FolderFile, given: Sequence[re.Pattern[str]], by_folder: bool) -> str:
    path = PurePosixPath(file.path)
    whole = str(path.with_suffix(""))
    if given:
        found = given[0].search(whole)
        return found[1] if found and found[1] else whole
    for pattern in PIECE:
        if found := pattern.fullmatch(path.stem):
            return found["id"]
    return f"{file.label}/{file.inner}" if by_folder and file.inner else whole


def choose_splits(
    files: Sequence[FolderFile], recordings: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, str]:
    """Choose the split of every recording.

    The last recording of a class is always for training. Without three of one class there is no
    test split.

    Args:
        recordings: of each file, by path. known: splits that stay as they are.
    """
    label_of: dict[str, str] = {}
    for file in files:
        label_of.setdefault(recordings[file.path], file.label)
    splits = {name: known.get(name, "train") for name in label_of}
    waiting = _spread({name: label for name, label in label_of.items() if name not in known})
    for split, fewest in HELD_OUT.items():
        share = max(len(label_of) >= fewest, round(SHARE * len(label_of)))
        wanted = share - list(splits.values()).count(split)
        for name in waiting[: max(0, wanted)]:
            splits[name] = split
        waiting = waiting[max(0, wanted) :]
    return splits


def _spread(label_of: Mapping[str, str]) -> list[str]:
    """Order the recordings that may be held out so that any first part holds all classes alike."""
    by_label: dict[str, list[tuple[str, str]]] = {}
    for name, label in label_of.items():
        by_label.setdefault(label, []).append((hashlib.sha256(name.encode()).hexdigest(), name))
    places = [
        ((rank + 0.5) / len(members), digest, name)
        for members in by_label.values()
        for rank, (digest, name) in enumerate(sorted(members)[:-1])
    ]
    return [name for _, _, name in sorted(places)]
