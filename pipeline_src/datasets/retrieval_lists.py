"""The list of clips that a published retrieval was scored on."""

from collections import Counter

from pipeline_src.datasets.dataset import DatasetConfig
from pipeline_src.errors import ManifestError


def load_gallery(dataset: DatasetConfig) -> list[str] | None:
    """Read the clip ids of ``retrieval_clips`` in file order; None without such a file.

    Raises:
        ManifestError: missing or empty file, or an id that is listed twice.
    """
    path = dataset.retrieval_clips
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: no such file; data set {dataset.name} names it as retrieval_clips: one "
            "clip_id per line"
        ) from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8: {error}") from error
    clip_ids = [line.strip() for line in lines if line.strip()]
    if not clip_ids:
        raise ManifestError(f"{path}: no clip_id at all; one per line is expected")
    clip_id, count = Counter(clip_ids).most_common(1)[0]
    if count > 1:
        raise ManifestError(f"{path}: clip_id {clip_id!r} stands there {count} times")
    return clip_ids
