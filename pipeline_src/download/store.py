"""Bodies on their way into the raw folder: ``.<name>.part``, whole or known to be a beginning.

A part becomes the file once the journal of the chunk has its hash (``DownloadJournal.keep``). Parts
are not synced one by one (thousands of small files): a file that a power cut tore is found by its
size and hash, and fetched again.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from pipeline_src.download.sources import Fetched
from pipeline_src.errors import MediaError, StageError, describe_disk_full, is_disk_full
from pipeline_src.manifest.ledger import TRANSIENT_REASONS
from pipeline_src.system.url_secrets import hide_secrets

BLOCK_BYTES = 1 << 18


class Readable(Protocol):
    """What blocks are read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        ...


def part_path(target: Path) -> Path:
    """Return the path that the body of ``target`` is collected in."""
    return target.with_name(f".{target.name}.part")


def check_size(size: int, max_bytes: int) -> None:
    """Refuse what is empty or larger than ``download.max_bytes``.

    Raises:
        MediaError: with the reason.
    """
    if size <= 0:
        raise MediaError("corrupt", f"{size} bytes")
    if size > max_bytes:
        raise MediaError("unsupported", f"{size} bytes; download.max_bytes is {max_bytes}")


def read_blocks(stream: Readable) -> Iterator[bytes]:
    """Yield the content of ``stream`` in blocks."""
    while block := stream.read(BLOCK_BYTES):
        yield block


class BodyVersion(NamedTuple):
    """What tells the body at an address from what was there before, as its answers say it.

    Args:
        size: bytes of the whole. coding: Content-Encoding. Empty or 0 = not said.
    """

    etag: str = ""
    modified: str = ""
    size: int = 0
    coding: str = ""

    @property
    def validator(self) -> str:
        """What names this body in If-Range (RFC 9110, 13.1.5); empty = not resumable."""
        if self.coding:
            return ""
        return self.etag if self.etag.startswith('"') else self.modified

    def goes_on_in(self, rest: "BodyVersion") -> bool:
        """Return whether another answer is of the same body; servers need not heed If-Range.

        A rest may leave out its date, but not an ETag that the whole has (RFC 9110, 15.3.7).
        """
        known = (self.etag.removeprefix("W/"), self.modified, self.size)
        said = (rest.etag.removeprefix("W/"), rest.modified, rest.size)
        if self.coding != rest.coding or (self.etag and not rest.etag):
            return False
        return all(a == b for a, b in zip(known, said, strict=True) if a and b)


class Part:
    """The beginning of a body, kept over attempts and jobs where the source can be asked for more.

    Args:
        source: a part of another source is thrown away.
    """

    def __init__(self, target: Path, source: str) -> None:
        self.target = target
        self.source = hide_secrets(source)
        self.path = part_path(target)
        self._note_path = target.with_name(f".{target.name}.part.json")
        version = self._read_version()
        if version is None:
            self.discard()
        self.version = version or BodyVersion()
        self.size = self.path.stat().st_size if self.path.is_file() else 0

    def _read_version(self) -> BodyVersion | None:
        try:
            note = json.loads(self._note_path.read_text(encoding="utf-8"))
            version = BodyVersion(**note.pop("version"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return version if note == {"source": self.source} else None

    def start_over(self, version: BodyVersion) -> None:
        """Begin an empty part; with a validator it can be resumed."""
        self.discard()
        self.version = version
        if version.validator:
            note = {"source": self.source, "version": version._asdict()}
            self._note_path.write_text(json.dumps(note), encoding="utf-8")  # torn = start over

    def extend(self, blocks: Iterable[bytes], *, max_bytes: int, max_seconds: float) -> Fetched:
        """Append ``blocks`` and describe the whole body.

        Raises:
            MediaError: empty, too large or too slow. StageError: the disk is full.
        """
        deadline = time.monotonic() + max_seconds
        with stage_error_when_full(self.target.parent), self.path.open("ab") as stream:
            digest = _digest(self.path)
            for block in blocks:
                self.size += len(block)
                if self.size > max_bytes:
                    check_size(self.size, max_bytes)
                digest.update(block)
                stream.write(block)
                if time.monotonic() > deadline:
                    raise MediaError("timeout", f"not done after {max_seconds:g} s")
        check_size(self.size, max_bytes)
        return Fetched(self.target, self.size, digest.hexdigest())

    def discard(self) -> None:
        """Remove the part and its note."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)
        self.size = 0

    def finish(self) -> None:
        """Remove the note: the body is whole."""
        self._note_path.unlink(missing_ok=True)

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Keep the part through transient failures and kills if it can be resumed, else drop it."""
        try:
            yield
        except MediaError as error:
            if error.reason not in TRANSIENT_REASONS or not self.version.validator:
                self.discard()
            raise
        except Exception:  # the disk is full, an archive is damaged
            self.discard()
            raise


def store(blocks: Iterable[bytes], target: Path, max_bytes: int) -> Fetched:
    """Collect a body that cannot be resumed."""
    part = Part(target, "")
    part.start_over(BodyVersion())
    with part.resumable():
        return part.extend(blocks, max_bytes=max_bytes, max_seconds=float("inf"))


def take_over(body: Path, target: Path) -> Fetched:
    """Make a whole file from elsewhere on the same file system ``target``'s part."""
    size, digest = body.stat().st_size, _digest(body).hexdigest()
    body.replace(part_path(target))
    return Fetched(target, size, digest)


def _digest(path: Path) -> "hashlib._Hash":
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in read_blocks(stream):
            digest.update(block)
    return digest


@contextmanager
def stage_error_when_full(folder: Path) -> Iterator[None]:
    """Turn "no space left" into an error of the stage: no other clip will fit either.

    Raises:
        StageError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StageError(describe_disk_full(error, folder)) from error
        raise
