"""Section of retrieval in both directions, against chance."""

from collections.abc import Sequence

from pipeline_src.evaluate.records import (
    DIRECTIONS,
    Directions,
    EvalMetrics,
    Retrieval,
)
from pipeline_src.report.blocks import (
    DIRECTION_LABELS,
    MISSING,
    Cell,
    PageSection,
    Table,
    interval_cell,
    number_text,
)

RECALLS = ("R@1", "R@5", "R@10")
RETRIEVAL_LEAD = (
    "The clip\u2019s own video among all videos of the gallery given its audio, and the reverse: "
    "share of queries with the true pair among the first k by cosine similarity. Ties are queries "
    "whose true pair has exactly the score of another candidate; many of them mean collapsed "
    "embeddings and void the figures."
)
SCORE_LABELS = {
    "diagonal_mean": "mean of the aligned pairs (published)",
    "diagonal_max": "best aligned pair",
    "mean": "mean of all pairs",
    "max": "best of all pairs",
    "clip_mean": "mean features of the clips",
}
MAX_TIED_FRACTION = 0.01


def retrieval_section(evaluations: Sequence[EvalMetrics]) -> PageSection:
    """Set recall in both directions against chance."""
    section = PageSection("retrieval", "Retrieval", RETRIEVAL_LEAD)
    named = {run.name: run.retrieval for run in evaluations if run.retrieval is not None}
    for run in evaluations:
        if run.retrieval is None and "video" in run.modalities:
            section.problems.add(f"{run.name}: metrics.json holds no retrieval figures")
    if named:
        section.blocks.append(retrieval_table(named, caption="Retrieval, both directions"))
        for name, retrieval in named.items():
            report_ties(section, name, retrieval)
    return section


def report_ties(section: PageSection, name: str, retrieval: Retrieval) -> None:
    """Warn where ties make recall look better than it is."""
    for direction, num_tied in retrieval.num_tied.items():
        if num_tied > MAX_TIED_FRACTION * retrieval.gallery_size:
            section.problems.add(
                f"{name}, {DIRECTION_LABELS[direction]}: {num_tied} of {retrieval.gallery_size} "
                "queries are tied, so recall is not to be trusted"
            )


def retrieval_table(named: dict[str, Retrieval], caption: str) -> Table:
    """Write one row per encoder and direction, and chance for each gallery size."""
    rows = []
    for name, retrieval in named.items():
        for index, direction in enumerate(DIRECTIONS):
            figures = retrieval.direction(direction)
            cells = [Cell(DIRECTION_LABELS[direction])]
            cells += [interval_cell(figures.get(key), scale=100) for key in RECALLS]
            cells += [_ratio_cell(retrieval, direction), interval_cell(figures.get("median_rank"))]
            if index == 0:
                title = Cell(name, sub=_encoder_text(retrieval), rowspan=2)
                cells = [title, *cells, Cell(f"{retrieval.gallery_size:,}", is_number=True,
                                             rowspan=2)]  # fmt: skip
            tied = retrieval.num_tied.get(direction)
            text = MISSING if tied is None else f"{tied:,}"
            cells.append(Cell(text, is_number=True, tone="" if tied else "muted"))
            rows.append(cells)
    by_size = {retrieval.gallery_size: retrieval for retrieval in named.values()}
    rows += [_chance_row(size, by_size[size]) for size in sorted(by_size)]
    head = ["Encoder", "Direction", "R@1, %", "R@5, %", "R@10, %", "R@10 / chance", "Median rank",
            "Gallery", "Ties"]  # fmt: skip
    return Table(caption, head, rows)


def score_table(retrieval: Retrieval, name: str) -> Table:
    """Compare what each score of two clips retrieves where they have aligned segments."""
    scores: dict[str, Directions] = {"diagonal_mean": retrieval, **retrieval.by_score}
    rows = [
        [Cell(SCORE_LABELS.get(score, score))]
        + [
            interval_cell(found.direction(direction).get(key), scale=100)
            for direction in DIRECTIONS
            for key in ("R@1", "R@10")
        ]
        for score, found in scores.items()
    ]
    head = ["Score of two clips"]
    head += [f"{key}, {DIRECTION_LABELS[way]}, %" for way in DIRECTIONS for key in ("R@1", "R@10")]
    return Table(f"Retrieval by aligned segments, {name} encoder", head, rows)


def _encoder_text(retrieval: Retrieval) -> str:
    if not retrieval.checkpoint:
        return ""
    learnt = f" on {', '.join(retrieval.trained_on)}" if retrieval.trained_on else ""
    return f"after {retrieval.checkpoint}{learnt}{', zero-shot' if retrieval.zero_shot else ''}"


def _ratio_cell(retrieval: Retrieval, direction: str) -> Cell:
    recall = retrieval.direction(direction).get("R@10")
    chance = retrieval.chance_level("R@10")
    is_better = recall is not None and recall.low is not None and recall.low > chance
    return interval_cell(recall, scale=1 / chance, tone="good" if is_better else "")


def _chance_row(gallery_size: int, retrieval: Retrieval) -> list[Cell]:
    recalls = [
        Cell(number_text(retrieval.chance_level(key), scale=100), tone="muted", is_number=True)
        for key in RECALLS
    ]
    median = number_text(retrieval.chance_level("median_rank"))
    return [
        Cell("Chance", tone="muted"),
        Cell("either", tone="muted"),
        *recalls,
        Cell("1.0", tone="muted", is_number=True),
        Cell(median, tone="muted", is_number=True),
        Cell(f"{gallery_size:,}", tone="muted", is_number=True),
        Cell(MISSING, tone="muted", is_number=True),
    ]
