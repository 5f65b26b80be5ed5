"""Which chunks are fetched again for their transient failures.

A request is an empty file that becomes an input of the chunk's download: the job runs once for
each, and what was requested earlier stays in the results. Good clips and permanent failures are
known to the chunk's log and are not asked again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_src.ledger import TRANSIENT_REASONS, read_ledger


class Retries(NamedTuple):
    """The chunks of a data set that are fetched again, and how many clips that concerns."""

    requests: tuple[str, ...]
    num_clips: int


def made_requests(folder: Path, split: str, chunk: str) -> list[str]:
    """Requests of a chunk so far, oldest first.

    Args:
        folder: ``<results>/<dataset>/retry``.
    """
    return sorted(str(path) for path in (folder / split).glob(f"{chunk}.[0-9][0-9][0-9]"))


def new_requests(manifests: Sequence[str], folder: Path) -> Retries:
    """The next request of every chunk whose download ledger holds a transient failure.

    Args:
        manifests: download manifests, ``.../download/<split>/<chunk>.json``; a chunk that has not
            been fetched yet needs no request.
    """
    requests, num_clips = [], 0
    for path in map(Path, manifests):
        ledger = path.with_suffix(".ledger.csv")
        rows = read_ledger(ledger) if path.is_file() and ledger.is_file() else []
        count = sum(row.reason in TRANSIENT_REASONS for row in rows)
        if count:
            split, chunk = path.parent.name, path.stem
            number = len(made_requests(folder, split, chunk)) + 1
            requests.append(f"{folder}/{split}/{chunk}.{number:03d}")
            num_clips += count
    return Retries(tuple(requests), num_clips)
