"""A clip's vectors compared with those of an index."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from pipeline_src.errors import ConfigError
from pipeline_src.inference.search.nearest import Pair, nearest
from pipeline_src.inference.search.store import ClipIndex, Row
from pipeline_src.modalities import MODALITIES

By = Literal["audio", "video", "both"]
Against = Literal["other", "same"]
BY, AGAINST = ("audio", "video", "both"), ("other", "same")
OTHER = {"audio": "video", "video": "audio"}


class Question(NamedTuple):
    """What is looked for.

    Args:
        by: what of the given clip is compared; with "both" the mean of the two.
        against: the other modality of the clips in the index, or the same.
        label, split: of clips that may be found; empty = any.
        without: row that is not an answer: the given clip itself.
    """

    by: By = "both"
    against: Against = "other"
    top: int = 10
    label: str = ""
    split: str = ""
    without: int = -1


def find(index: ClipIndex, wanted: Mapping[str, NDArray | None], question: Question) -> list[Row]:
    """Find the rows of the nearest clips with their scores, the best first.

    Args:
        wanted: vectors (D,) of length 1 by modality; None or missing = the clip has no such part.
    Raises:
        ConfigError: the clip, or the index, lacks what is to be compared.
    """
    pairs, needed = _pairs(index, wanted, question)
    allowed = index.allowed(question.label, question.split)
    for name in needed:
        allowed &= index.columns[name]
    if question.without >= 0:
        allowed[question.without] = False
    if not index.num_rows:
        return []
    found = nearest(pairs, question.top, allowed)
    return [
        {"score": round(float(score), 6), **index.row(int(row))}
        for row, score in zip(found.rows_K, found.scores_K, strict=True)
    ]


def row_vectors(index: ClipIndex, number: int) -> dict[str, NDArray | None]:
    """Return the vectors of a row by modality, (D,); None where it has none."""
    index.row(number)
    return {
        name: stored[number] if index.columns[name][number] else None
        for name, stored in index.vectors.items()
    }


def _pairs(
    index: ClipIndex, wanted: Mapping[str, NDArray | None], question: Question
) -> tuple[list[Pair], set[str]]:
    pairs: list[Pair] = []
    needed: set[str] = set()
    asked = MODALITIES if question.by == "both" else (question.by,)
    for name in asked:
        vector = wanted.get(name)
        target = name if question.against == "same" else OTHER[name]
        if vector is not None and target in index.vectors:
            pairs.append(Pair(vector, index.vectors[target]))
            needed.add(target)
    if not pairs:
        has = " and ".join(name for name in MODALITIES if wanted.get(name) is not None)
        raise ConfigError(
            f"compared by {question.by} with the {question.against} modality, but the clip has "
            f"{has or 'nothing'} and the index {' and '.join(index.vectors)}; choose another"
        )
    return pairs, needed


def public_row(row: Row) -> dict[str, Any]:
    """Return a row without what is of use to this program alone."""
    hidden = {"stamp", "sample", "preview"}
    return {key: value for key, value in row.items() if key not in hidden}
