"""Local files, used where they lie, and archives on this machine."""

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline_src.config.data import DownloadConfig
from pipeline_src.datasets.sources import source_kind, split_member
from pipeline_src.download.archives import NO_MEMBER, fetch_members
from pipeline_src.download.sources import BEFORE_THAT, Fetched, FetchFailure, Outcome
from pipeline_src.download.store import check_size, read_blocks
from pipeline_src.errors import MediaError


def find_local(root: Path, name: str) -> Path:
    """Find the file of a name below ``root``; accents may be composed differently on disk."""
    path = root / name
    if is_file(path):
        return path
    forms = (root / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return next((other for other in forms if is_file(other)), path)


def is_file(path: Path) -> bool:
    """Return whether there is a regular file; a name that cannot be one is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_there_now(root: Path, source: str, detail: str) -> bool:
    """Return whether a local file that was missing is there by now, or the archive of a member.

    Args:
        detail: why it was unavailable, it and sources before it: an archive may be there and lack
            the member.
    """
    own, _, _ = detail.partition(BEFORE_THAT)
    if source_kind(source) == "member" and NO_MEMBER in own:
        return False
    file = split_member(source)[0] if source_kind(source) == "member" else source
    return source_kind(file) == "local" and is_file(find_local(root, file))


def fetch_local(path: Path, max_bytes: int) -> Outcome:
    """Check a local file and hash it; it is used where it lies."""
    try:
        if not is_file(path):
            return FetchFailure("unavailable", f"{path} is not a file")
        size = path.stat().st_size
        check_size(size, max_bytes)
        digest, num_read = hashlib.sha256(), 0
        with path.open("rb") as stream:
            for block in read_blocks(stream):
                digest.update(block)
                num_read += len(block)
                check_size(num_read, max_bytes)
    except MediaError as error:
        return FetchFailure(error.reason, f"{path}: {error.detail}")
    except OSError as error:
        return FetchFailure("unavailable", f"{path}: {error.strerror}")
    return Fetched(path, size, digest.hexdigest())


def fetch_local_members(
    archive: Path, targets: Mapping[str, Path], config: DownloadConfig
) -> Iterator[tuple[str, Outcome]]:
    """Run ``fetch_members`` on an archive of this machine."""
    failure = FetchFailure("unavailable", f"{archive} is not a file")
    if is_file(archive):
        try:
            stream = archive.open("rb")
        except OSError as error:
            failure = FetchFailure("unavailable", f"{archive}: {error.strerror}")
        else:
            with stream:
                yield from fetch_members(stream, str(archive), targets, config)
            return
    yield from ((name, failure) for name in targets)
