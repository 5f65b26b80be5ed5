"""The download's ledger rows: what every stage notes, and what was fetched, when and by what."""

from dataclasses import dataclass

from pipeline_src.manifest.ledger import LedgerRow


@dataclass(frozen=True)
class FetchRow(LedgerRow):
    """A ledger row of the download.

    Args:
        source: where the clip came from, or was asked for last.
        bytes: size of the file, 0 when lost. sha256: of the file.
        seconds: spent on transfers by the job that ended it; local files take none.
        finished: UTC, ISO 8601; empty for local files. tool: what fetched it, with its version.
    """

    source: str = ""
    bytes: int = 0
    sha256: str = ""
    seconds: float = 0.0
    finished: str = ""
    tool: str = ""
