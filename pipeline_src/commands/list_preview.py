"""What will become of files when they are decoded: the stages' own checks, on headers alone."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline_src.config import MediaConfig
from pipeline_src.download.store import check_size
from pipeline_src.errors import MediaError
from pipeline_src.transcode.clips import prepare_clip
from pipeline_src.transcode.memory import MemoryBudget
from pipeline_src.transcode.probe import probe_file

# Why a file is lost that shows no picture, or nothing at all.
WITHOUT_VIDEO = ("no_video", "corrupt")


@dataclass(frozen=True)
class Seen:
    """A file as its header shows it.

    Args:
        seconds: duration; 0 where it could not be told.
        has_video: False also where the file is no use at all.
        lost: why it will be lost, None where nothing speaks against it.
    """

    seconds: float = 0.0
    has_video: bool = False
    lost: MediaError | None = None


def look_at_all(paths: Sequence[Path], media: MediaConfig, max_bytes: int) -> list[Seen]:
    """Look into every file, several at a time."""
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        return list(pool.map(lambda path: _look(path, media, max_bytes), paths))


def _look(path: Path, media: MediaConfig, max_bytes: int) -> Seen:
    whole = {"start_seconds": None, "end_seconds": None}
    clip = {"clip_id": path.name, "path": path.name, **whole}
    try:
        check_size(path.stat().st_size, max_bytes)
        path.open("rb").close()
    except OSError as error:
        return Seen(lost=MediaError("unavailable", error.strerror or str(error)))
    except MediaError as error:
        return Seen(lost=error)
    prepared = prepare_clip(clip, path.parent, media, MemoryBudget(1).total_bytes)
    if isinstance(prepared, MediaError):
        return Seen(_sound_seconds(path, media), prepared.reason not in WITHOUT_VIDEO, prepared)
    return Seen(prepared.job.duration_seconds, prepared.probe.video_index is not None)


def _sound_seconds(path: Path, media: MediaConfig) -> float:
    try:
        length = probe_file(path, max_pixels=media.max_pixels, needs_video=False).length
    except MediaError:
        return 0.0
    return max(0.0, length.end_seconds - length.begin_seconds)
