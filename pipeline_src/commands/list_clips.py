"""A data set of one's own from a folder: YAML, clip list and class list beside each other."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from pipeline_src.catalog.datasets import RESERVED_NAMES
from pipeline_src.commands.list_preview import Seen
from pipeline_src.config import MediaConfig
from pipeline_src.config.root import MAX_NAME_CHARS, NAME_PATTERN
from pipeline_src.datasets.dataset import FOLD_NAME, SPLITS
from pipeline_src.datasets.folder import NO_CLASS, Folder, clip_id, safe_id, safe_name
from pipeline_src.datasets.list_formats import COLUMNS
from pipeline_src.datasets.recordings import choose_splits, name_recordings
from pipeline_src.errors import ConfigError, MediaError, describe_disk_full, is_disk_full
from pipeline_src.system.atomic import write_files

MAX_NAMED = 10
HEADER = """\
# Written by `av-pipeline list` from {folder}.
# licence is yours to fill in; everything else may be edited too (docs/usage.md).
"""


class ListedClip(NamedTuple):
    """A row of the clip list.

    Args:
        lost: why it will be lost; None where its header says nothing against it.
    """

    clip_id: str
    source: str
    start_seconds: float | None
    end_seconds: float | None
    label: str
    split: str
    lost: MediaError | None


@dataclass(frozen=True)
class Files:
    """Where the three files of a data set stand."""

    description: Path
    clips: Path
    classes: Path

    @classmethod
    def of(cls, folder: Path, name: str) -> "Files":
        """Return the files of data set ``name`` in ``folder``."""
        stem = folder / name
        return cls(
            stem.with_suffix(".yaml"), *(Path(f"{stem}_{k}.csv") for k in ("clips", "classes"))
        )


def choose_name(folder: Path, wanted: str, taken: Sequence[str]) -> str:
    """Return the data set's name: as wanted, or that of the folder as far as a name may be so.

    Raises:
        ConfigError: the wanted one is not allowed.
    """
    taken = [*taken, *RESERVED_NAMES]
    if wanted:
        if not re.fullmatch(NAME_PATTERN, wanted) or FOLD_NAME.fullmatch(wanted) or wanted in taken:
            raise ConfigError(
                f"--name {wanted!r}: letters, digits and _, starting with a letter, at most "
                f"{MAX_NAME_CHARS}, no _fold1 at its end, and none of {', '.join(sorted(taken))}"
            )
        return wanted
    name = safe_name(folder.resolve().name)[: MAX_NAME_CHARS - len("my__set")]
    if not re.fullmatch(NAME_PATTERN, name) or FOLD_NAME.fullmatch(name) or name in taken:
        name = f"my_{name.strip('_') or 'recordings'}"
        name += "_set" if FOLD_NAME.fullmatch(name) else ""
    return name


def list_clips(
    folder: Folder,
    seen: Mapping[str, Seen],
    *,
    media: MediaConfig,
    clip_seconds: float,
    recording: str,
    known: Mapping[str, str],
    copies: Mapping[str, str],
) -> list[ListedClip]:
    """Return every clip of the folder's files, in their order.

    Args:
        seen: what the header of each file shows, by path.
        clip_seconds: longer files become pieces of this length; 0 = one clip a file.
        recording: pattern of ``name_recordings``.
        known: splits of sources that an earlier list holds; they keep them.
        copies: path -> that of another file with the same bytes; they share a split.
    """
    recordings = name_recordings(folder.files, recording, copies)
    kept = {recordings[f.path]: known[f.path] for f in folder.files if f.path in known}
    splits = choose_splits(folder.files, recordings, kept)
    labels = class_ids(folder)
    return [
        ListedClip(
            clip_id(file.path) + suffix,
            file.path,
            start,
            end,
            labels[file.label],
            file.split or splits[recordings[file.path]],
            lost,
        )
        for file in folder.files
        for suffix, start, end, lost in _pieces(seen[file.path], clip_seconds, media)
    ]


def known_first(clips: Sequence[ListedClip], known: Mapping[str, str]) -> list[ListedClip]:
    """Return clips with new ones last: in between they would move others into other chunks.

    Args:
        known: splits of sources that an earlier list holds, in its order.
    """
    place = {source: number for number, source in enumerate(known)}
    return sorted(clips, key=lambda clip: place.get(clip.source, len(place)))


def _pieces(
    seen: Seen, clip_seconds: float, media: MediaConfig
) -> Iterator[tuple[str, float | None, float | None, MediaError | None]]:
    """Yield suffix of id, start, end and fate of each clip of a file; a rest below half is left."""
    if not clip_seconds or seen.seconds < 1.5 * clip_seconds:
        yield "", None, None, seen.lost
        return
    is_too_long = seen.lost is not None and seen.seconds > media.max_seconds
    for number in range(int(seen.seconds / clip_seconds + 0.5)):
        start = number * clip_seconds
        end = round(min(start + clip_seconds, seen.seconds), 3)
        yield f"_{number:04d}", round(start, 3), end, None if is_too_long else seen.lost


def class_ids(folder: Folder) -> dict[str, str]:
    """Return id of every class by the name of its folder."""
    return {label: safe_id(label) for label in folder.labels}


def write_lists(
    files: Files, folder_path: Path, folder: Folder, clips: Sequence[ListedClip], *, has_video: bool
) -> None:
    """Write clip list and class list, and the description where there is none yet.

    Raises:
        ConfigError: the place cannot be written.
    """
    is_beside = files.description.parent.resolve() == folder_path.resolve()
    description = {
        "name": files.description.stem,
        "task": "multiclass",
        **({} if has_video else {"modalities": ["audio"]}),
        "clip_list": files.clips.name,
        "class_names": files.classes.name,
        "root": "." if is_beside else str(folder_path.resolve()),
        "licence": "not stated",
    }
    header = HEADER.format(folder=repr(str(folder_path.resolve())))
    text = header + yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    contents = {files.clips: _clips_csv(clips), files.classes: _classes_csv(folder)}
    if not files.description.exists():
        contents[files.description] = text.encode()
    try:
        write_files(contents)
    except OSError as error:
        if is_disk_full(error):
            raise ConfigError(describe_disk_full(error, files.description.parent)) from None
        raise ConfigError(
            f"{files.description.parent}: cannot be written: {error.strerror}; name another folder "
            "with --output"
        ) from None


def read_splits(path: Path) -> dict[str, str]:
    """Map each source of an earlier list to its split; empty where there is no list."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        return {r["source"]: r["split"] for r in rows if r.get("source") and r["split"] in SPLITS}


def _clips_csv(clips: Sequence[ListedClip]) -> bytes:
    return _csv(COLUMNS, (clip[: len(COLUMNS)] for clip in clips))


def _classes_csv(folder: Folder) -> bytes:
    rows, shown = [], set()
    for index, (label, id_) in enumerate(class_ids(folder).items()):
        name = " ".join(label.split())
        rows.append((index, id_, id_ if name in shown else name))
        shown.add(name)
    return _csv(("index", "id", "display_name"), rows)


def _csv(columns: Sequence[str], rows: Iterator | Sequence) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def describe_list(
    folder: Folder, clips: Sequence[ListedClip], seen: Mapping[str, Seen]
) -> Iterator[str]:
    """Yield what was found and how it was split."""
    counts = Counter(clip.split for clip in clips)
    shown = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
    classes = "no class folders" if folder.labels == [NO_CLASS] else f"{len(folder.labels)} classes"
    minutes = sum(one.seconds for one in seen.values()) / 60
    yield f"{len(folder.files)} files, {minutes:.1f} min, {classes}; clips: {shown}"
    yield from _absent_classes(folder, clips)
    if folder.others:
        found = ", ".join(f"{name} {count}" for name, count in sorted(folder.others.items()))
        yield f"no recordings, not listed: {found}"
    yield from _short_list("not listed", dict(folder.excluded))


def _absent_classes(folder: Folder, clips: Sequence[ListedClip]) -> Iterator[str]:
    """Say of which classes a split has no clip, as it has of small ones."""
    names = {label: name for name, label in class_ids(folder).items()}
    of_split = {split: {names[c.label] for c in clips if c.split == split} for split in SPLITS}
    every = set[str]().union(*of_split.values())
    for split, there in of_split.items():
        if absent := sorted(every - there) if there else ():
            named = ", ".join(map(repr, absent[:MAX_NAMED]))
            more = f" ... ({len(absent)})" if len(absent) > MAX_NAMED else ""
            yield f"no clip in {split} of: {named}{more}"


def describe_expected_losses(
    clips: Sequence[ListedClip], *, left_out: bool = False
) -> Iterator[str]:
    """Say which clips will be lost by what their headers say, or were left out for it."""
    lost = {clip.source: clip.lost for clip in clips if clip.lost}
    num_lost = sum(clip.lost is not None for clip in clips)
    if not lost:
        yield "nothing will be lost by what the files' headers say"
        return
    reasons = Counter(clip.lost.reason for clip in clips if clip.lost)
    shown = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    yield f"{'left out' if left_out else 'will be lost'}: {num_lost} of {len(clips)} clips: {shown}"
    yield from _short_list("  ", {source: str(why) for source, why in lost.items()})


def failing_splits(clips: Sequence[ListedClip], max_failed_fraction: float) -> Iterator[str]:
    """Say which splits cannot afford what they will lose."""
    for split in SPLITS:
        in_split = [clip for clip in clips if clip.split == split]
        num_lost = sum(clip.lost is not None for clip in in_split)
        if num_lost > max_failed_fraction * len(in_split):
            yield (
                f"{split} would fail: {num_lost} of its {len(in_split)} clips are lost, more than "
                f"shards.max_failed_fraction = {max_failed_fraction:g} allows; list again with "
                "--update --usable"
            )


def describe_copies(
    folder: Folder, clips: Sequence[ListedClip], copies: Mapping[str, str]
) -> Iterator[str]:
    """Yield files with the bytes of another, those first that folders put into other splits."""
    split_of = {clip.source: clip.split for clip in clips}
    label_of = {file.path: file.label for file in folder.files}
    told: dict[str, str] = {}
    for path, other in copies.items():
        if path in split_of and other in split_of:
            told[path] = f"the same bytes as {other!r}"
            if split_of[path] != split_of[other]:
                told[path] += f", which is in {split_of[other]}; this is in {split_of[path]}"
            elif label_of[path] != label_of[other]:
                told[path] += f", which is of another class, {label_of[other]!r}"
    ordered = sorted(told, key=lambda path: split_of[path] == split_of[copies[path]])
    yield from _short_list("copy", {path: told[path] for path in ordered})


def _short_list(title: str, reasons: Mapping[str, str], most: int = 10) -> Iterator[str]:
    for path, reason in list(reasons.items())[:most]:
        yield f"{title}: {path!r}: {reason}" if title.strip() else f"{title}{path!r}: {reason}"
    if len(reasons) > most:
        yield f"{title} ... and {len(reasons) - most} more"
