"""Groups of clips that a list names: a speaker, a recording. One file a split, beside the plan.

Neither the plan's chunks nor the shards hold them, so that a list may name them at any time and
nothing is made again but the scores.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline_src.datasets.clip_lists import ClipRow
from pipeline_src.errors import ManifestError
from pipeline_src.system.atomic import file_sha256, write_text

GROUPS_FOLDER = "groups"
COLUMNS = ("clip_id", "group")

Groups = dict[str, dict[str, str]]


def note_groups(clips: Iterable[ClipRow], groups: Groups) -> Iterator[ClipRow]:
    """Yield the clips, and put those with a group into ``groups``: split -> clip_id -> group."""
    for clip in clips:
        if clip.group:
            groups.setdefault(clip.split, {})[clip.clip_id] = clip.group
        yield clip


def write_groups(folder: Path, groups: Groups) -> None:
    """Write ``folder/<split>.csv`` where it differs; remove those of splits without groups."""
    texts = {folder / f"{split}.csv": _format(found) for split, found in groups.items()}
    for path in set(folder.glob("*.csv")) - set(texts):
        path.unlink(missing_ok=True)
    for path, text in texts.items():
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)


def _format(groups: Mapping[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(groups.items())
    return text.getvalue()


def read_groups(path: Path) -> dict[str, str]:
    """Read clip_id -> group.

    Raises:
        ManifestError: it has other columns.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ManifestError(f"{path}: columns {rows[:1]}, expected {COLUMNS}")
    return dict(rows[1:])


def hash_groups(folder: Path) -> dict[str, str]:
    """Hash what ``write_groups`` wrote, by file name."""
    return {path.name: file_sha256(path) for path in sorted(folder.glob("*.csv"))}
