"""Where one clip can be fetched, in order: a ready-cut file, a mirror, the list's source."""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from pipeline_src.datasets.clip_lists import ClipRow
from pipeline_src.datasets.sources import source_kind, split_member


class ClipSources(NamedTuple):
    """What a data set's description says about where its clips lie.

    Args:
        root: folder that local paths and archives start from.
        clip_file: name of a ready-cut clip below it, with {clip_id}; empty = there are none.
        mirror: http(s) URL, or archive URL and member, with {clip_id}; empty = there is none.
        mirror_is_cut: its files are the clips; else they are cut like the list's source.
        clip_list: the list of form ``clips``, which alone holds tokens of addresses.
    """

    root: Path
    clip_file: str = ""
    mirror: str = ""
    mirror_is_cut: bool = True
    clip_list: str = ""


def source_choices(clip: ClipRow, sources: ClipSources) -> tuple[ClipRow, ...]:
    """Return the clip by each source, first choice first; a ready-cut local file stands alone."""
    if sources.clip_file and (ready := _ready_cut(clip, sources)):
        return (ready,)
    if not sources.mirror:
        return (clip,)
    mirrored = clip._replace(source=mirror_source(sources.mirror, clip.clip_id))
    if sources.mirror_is_cut:
        mirrored = mirrored._replace(start_seconds=None, end_seconds=None)
    return mirrored, clip


def mirror_source(mirror: str, clip_id: str) -> str:
    """Return the source of one clip; its id cannot change the URL's path, host or query."""
    if source_kind(mirror) != "member":
        return mirror.replace("{clip_id}", quote(clip_id, safe=""))
    archive, member = split_member(mirror)
    url = archive.replace("{clip_id}", quote(clip_id, safe=""))
    return f"{url}::{member.replace('{clip_id}', clip_id)}"


def _ready_cut(clip: ClipRow, sources: ClipSources) -> ClipRow | None:
    """Return the clip as a whole local file if there is one; its name stays below ``root``."""
    name = sources.clip_file.replace("{clip_id}", clip.clip_id)
    is_safe = not {"/", "\\"} & set(clip.clip_id) and clip.clip_id not in (".", "..")
    if not is_safe or not (sources.root / name).is_file():
        return None
    return clip._replace(source=name, start_seconds=None, end_seconds=None)
