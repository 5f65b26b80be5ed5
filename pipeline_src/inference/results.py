"""What comes back for each input or window: vectors or scores, or why there are none.

Shape legend: D embedding width, C classes.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline_src.modalities import MODALITIES

DIGITS = 9  # of a decimal number: as many as make every fp32 value again


class SourceSpan(NamedTuple):
    """Which part of which input a result is of.

    Args:
        number: of the input, from 0. source: its name.
        window, num_windows: which one of how many; 0 of 1 for all of a file.
        start_seconds, end_seconds: within the file; both 0 for a picture and a refusal.
        flags: what is odd about the clip, as in the ledger.
        reason, detail: why there is no result, from the ledger's closed list; empty = there is.
    """

    number: int
    source: str
    window: int = 0
    num_windows: int = 1
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    flags: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""

    def row(self) -> dict[str, Any]:
        """Return it as columns of a table; the number of the input says nothing there."""
        values = self._asdict()
        del values["number"]
        return values | {"flags": ";".join(self.flags)}


@dataclass(frozen=True, eq=False)
class Embedding:
    """Vectors of one part, as ``embeddings.npz`` of an evaluation holds them.

    Args:
        audio, video: (D,) mean over the encoder's tokens; None = the input has no such part.
        contrasted: "audio" and "video" as the contrastive loss compares them, where the method
            projects them first.
    """

    span: SourceSpan
    audio: NDArray | None = None
    video: NDArray | None = None
    contrasted: dict[str, NDArray] | None = None

    @property
    def is_ok(self) -> bool:
        """Whether there is one."""
        return not self.span.reason

    def compared(self, modality: str) -> NDArray | None:
        """Return the vector (D,) of length 1 that sound and picture are compared by.

        None without one.
        """
        vector = (self.contrasted or {}).get(modality)
        vector = getattr(self, modality) if vector is None else vector
        return None if vector is None else vector / max(float(np.linalg.norm(vector)), 1e-12)

    def row(self) -> dict[str, Any]:
        """Return the span, and the numbers as ``audio_0``, ``video_0``, ..."""
        numbers = {
            f"{name}_{place}": value
            for name in MODALITIES
            for place, value in enumerate(decimals(getattr(self, name)))
        }
        return self.span.row() | numbers

    def record(self) -> dict[str, Any]:
        """Return the span, and the vectors as lists."""
        vectors = {name: decimals(getattr(self, name)) for name in MODALITIES}
        return self.span.row() | {name: value for name, value in vectors.items() if value}


@dataclass(frozen=True, eq=False)
class Classification:
    """Probabilities of one part.

    Args:
        head: the input that it was scored with: audio, video or audio_video.
        scores: (C,) softmax of one label per clip, sigmoid of several.
    """

    span: SourceSpan
    class_names: tuple[str, ...]
    head: str = ""
    scores: NDArray | None = None

    @property
    def is_ok(self) -> bool:
        """Whether there is one."""
        return not self.span.reason

    @property
    def label(self) -> str:
        """The class with the highest score; empty without scores."""
        return self.top(1)[0][0] if self.scores is not None else ""

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the ``count`` classes with the highest scores, and these."""
        if self.scores is None:
            return []
        best = np.argsort(-self.scores, kind="stable")[:count]
        return [(self.class_names[place], float(self.scores[place])) for place in best]

    def row(self, count: int = 5) -> dict[str, Any]:
        """Return the span, head, and the best classes as ``label_1``, ``score_1``, ..."""
        best = {
            key: value
            for rank, (label, score) in enumerate(self.top(count), start=1)
            for key, value in ((f"label_{rank}", label), (f"score_{rank}", round(score, DIGITS)))
        }
        return self.span.row() | {"head": self.head} | best

    def record(self, count: int = 5) -> dict[str, Any]:
        """Return the span, head, and the best classes with their scores."""
        scores = {label: round(score, DIGITS) for label, score in self.top(count)}
        return self.span.row() | {"head": self.head, "scores": scores}


def decimals(vector: NDArray | None) -> list[float]:
    """Return a vector's numbers, as short as make the same fp32 values again."""
    return [] if vector is None else [float(f"{value:.{DIGITS}g}") for value in vector.tolist()]
