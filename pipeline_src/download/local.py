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
from pipeline_src.manifest.ledger import SourceFile


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


def is_another_now(root: Path, file: SourceFile) -> bool:
    """Return whether a local file was missing and is there by now, or was there and has changed.

    Of members of archives only that the archive is there by now: those that were found are kept.
    """
    if not file.detail:
        return source_kind(file.source) == "local" and _has_changed(root, file)
    # It and sources before it: an archive may be there and lack the member.
    own, _, _ = file.detail.partition(BEFORE_THAT)
    is_member = source_kind(file.source) == "member"
    if is_member and NO_MEMBER in own:
        return False
    name = split_member(file.source)[0] if is_member else file.source
    return source_kind(name) == "local" and is_file(find_local(root, name))


def _has_changed(root: Path, file: SourceFile) -> bool:
    """Return whether a file has another size, or was written after it was seen; gone = it has not.

    A file that came with a time of long ago and the size of the former is not told from it.
    """
    try:
        status = find_local(root, file.source).stat()
    except OSError:
        return False
    return status.st_size != file.num_bytes or status.st_mtime > file.seen


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
