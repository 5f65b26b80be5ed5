"""Which chunks are made again for their transient failures, in fetching or in transcoding.

A request is an empty file that becomes an input of the chunk's download: the job runs once for
each, and what was requested earlier stays in the results. Good clips and permanent failures are
known to the chunk's log and are not asked again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_src.ledger import TRANSIENT_REASONS, read_ledger


class Asked(NamedTuple):
    """How much is fetched again."""

    num_chunks: int
    num_clips: int


class RetryRequests:
    """Requests below ``<results>/<dataset>/retry/<split>/<chunk>.<number>``, made and asked for."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._asked: set[str] = set()

    def ask(self, manifests: Sequence[str]) -> Asked:
        """Ask for one more request of every chunk whose ledger holds a transient failure.

        Args:
            manifests: download manifests, ``<results>/<dataset>/download/<split>/<chunk>.json``; a
                chunk that has not been fetched yet needs no request.
        """
        num_chunks = num_clips = 0
        for path in map(Path, manifests):
            dataset, _, split, name = path.relative_to(self._results).parts
            transcoded = self._results / dataset / "transcode" / split / name
            if count := _num_transient(path) + _num_transient(transcoded):
                number = len(self._made(dataset, split, path.stem)) + 1
                self._asked.add(f"{self._folder(dataset, split)}/{path.stem}.{number:03d}")
                num_chunks += 1
                num_clips += count
        return Asked(num_chunks, num_clips)

    def of(self, dataset: str, split: str, chunk: str) -> list[str]:
        """The requests that a chunk's download answers, oldest first."""
        prefix = f"{self._folder(dataset, split)}/{chunk}."
        asked = {path for path in self._asked if path.startswith(prefix)}
        return sorted({*self._made(dataset, split, chunk), *asked})

    def _made(self, dataset: str, split: str, chunk: str) -> list[str]:
        return [str(path) for path in self._folder(dataset, split).glob(f"{chunk}.[0-9][0-9][0-9]")]

    def _folder(self, dataset: str, split: str) -> Path:
        return self._results / dataset / "retry" / split


def _num_transient(manifest: Path) -> int:
    ledger = manifest.with_suffix(".ledger.csv")
    rows = read_ledger(ledger) if manifest.is_file() and ledger.is_file() else []
    # What is skipped, another stage has failed.
    return sum(row.status == "failed" and row.reason in TRANSIENT_REASONS for row in rows)
