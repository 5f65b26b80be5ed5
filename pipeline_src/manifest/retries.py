"""Requests to make chunks again for their transient failures, or for files that have changed.

A request is an empty file that becomes an input of the chunk's download or transcoding: the job
runs once for each, and what was requested earlier stays in the results. Good clips and permanent
failures of a download are in the chunk's journal and are not requested again.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pipeline_src.manifest.ledger import LEDGER_SUFFIX, IsAnotherNow, count_retried

# The stages that have transient failures, the earlier one first: its request runs both.
RETRIED_STAGES = ("download", "transcode")
REQUESTS_FOLDER = "retry"


class Asked(NamedTuple):
    """How much is tried again."""

    num_chunks: int
    num_clips: int


class RetryRequests:
    """Requests below ``<results>/<dataset>/retry/<stage>/<split>/<chunk>.<number>``."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._asked: dict[Path, str] = {}

    def ask(
        self,
        manifests: Mapping[str, Sequence[str]],
        is_another_now: IsAnotherNow = lambda file: False,
    ) -> Asked:
        """Ask for one more request of every chunk with clips that another try may change.

        Args:
            is_another_now: see ``count_retried``.
            manifests: retried stage -> its manifest of every chunk, the same chunks in the same
                order: ``<results>/<dataset>/<stage>/<split>/<chunk>.json``. One that is not there
                yet needs no request.
        """
        num_chunks = num_clips = 0
        for chunk in zip(*(manifests[stage] for stage in RETRIED_STAGES), strict=True):
            counts = {path: _num_retried(path, is_another_now) for path in map(Path, chunk)}
            if path := next((path for path, count in counts.items() if count), None):
                dataset, stage, split, _ = path.relative_to(self._results).parts
                prefix = self._folder(dataset, stage, split) / path.stem
                number = len(self.of(dataset, stage, split, path.stem)) + 1
                self._asked[prefix] = f"{prefix}.{number:03d}"
                num_chunks += 1
                num_clips += sum(counts.values())
        return Asked(num_chunks, num_clips)

    def of(self, dataset: str, stage: str, split: str, chunk: str) -> list[str]:
        """Return the requests that a chunk's job answers, oldest first."""
        folder = self._folder(dataset, stage, split)
        asked = self._asked.get(folder / chunk)
        return sorted({*self._made(folder).get(chunk, ()), *([asked] if asked else [])})

    @cache  # noqa: B019 - one folder holds the requests of thousands of chunks
    def _made(self, folder: Path) -> dict[str, list[str]]:
        """Map each chunk to its requests on disk; none is removed, new ones are in ``_asked``."""
        made: dict[str, list[str]] = {}
        for path in folder.glob("[0-9]*.[0-9][0-9][0-9]"):
            made.setdefault(path.stem, []).append(str(path))
        return made

    def _folder(self, dataset: str, stage: str, split: str) -> Path:
        return self._results / dataset / REQUESTS_FOLDER / stage / split


def _num_retried(manifest: Path, is_another_now: IsAnotherNow) -> int:
    ledger = manifest.with_suffix(LEDGER_SUFFIX)
    is_made = manifest.is_file() and ledger.is_file()
    return count_retried(ledger, is_another_now) if is_made else 0
