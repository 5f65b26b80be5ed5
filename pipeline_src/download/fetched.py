"""What a chunk has fetched so far, so that a killed job does not fetch it again.

``fetched.jsonl`` lies in the chunk's raw folder and is no declared output: it outlives the job.
"""

import json
import threading
from pathlib import Path
from types import TracebackType

from pipeline_src.atomic import file_sha256
from pipeline_src.download.sources import Fetched

FILE_NAME = "fetched.jsonl"


class FetchedLog:
    """Append-only log of finished fetches of one chunk; safe to use from several threads."""

    def __init__(self, raw_folder: Path) -> None:
        self.folder = raw_folder
        self.known = _read(raw_folder / FILE_NAME)
        self._stream = (raw_folder / FILE_NAME).open("a", encoding="utf-8")
        self._stream.write("\n")  # ends a line that a kill cut short
        self._lock = threading.Lock()

    def __enter__(self) -> "FetchedLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def find(self, source: str, target: Path) -> Fetched | None:
        """The finished file of ``source``, if it is still whole at ``target``."""
        entry = self.known.get(target.name)
        if entry is None or entry["source"] != source or not target.is_file():
            return None
        if target.stat().st_size != entry["bytes"] or file_sha256(target) != entry["sha256"]:
            return None
        return Fetched(target, entry["bytes"], entry["sha256"], attempts=0)

    def add(self, source: str, fetched: Fetched) -> None:
        """Remember a finished file."""
        entry = {
            "file": fetched.path.name,
            "source": source,
            "bytes": fetched.bytes,
            "sha256": fetched.sha256,
        }
        with self._lock:
            self._stream.write(json.dumps(entry) + "\n")
            self._stream.flush()


def _read(path: Path) -> dict[str, dict]:
    """Entries by file name; lines that a kill cut short, and empty ones, are left out."""
    if not path.is_file():
        return {}
    entries = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        entries[entry["file"]] = entry
    return entries
