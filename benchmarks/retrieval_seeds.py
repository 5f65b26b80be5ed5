"""Retrieval of an experiment's pre-trainings: means over seeds, and differences to the first row.

    python -m benchmarks.retrieval_seeds results

Runs whose names differ in a number at their end are seeds of one row. Intervals, 95 %, are over
seeds and clips; a difference is paired in the seed and in the clips of the gallery.
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from pipeline_src.evaluate.files import RETRIEVAL_FILE
from pipeline_src.evaluate.intervals import Interval
from pipeline_src.evaluate.records import DIRECTIONS
from pipeline_src.evaluate.seeds import (
    Resampled,
    mean_difference_over_seeds,
    mean_over_seeds,
    resample_share,
)

RECALL_AT = (1, 10)
OPTIONS = {"num_resamples": 2000, "seed": 0}
Ranks = dict[str, np.ndarray]  # clip_ids and, by direction, the rank of each clip's partner, (N,)


def collect(results: Path, dataset: str) -> dict[str, list[Ranks]]:
    """Read the ranks of each row, one entry per seed, in the order of names.

    Raises:
        SystemExit: there are none, or they are of different galleries.
    """
    found: dict[str, list[Ranks]] = defaultdict(list)
    for path in sorted(results.glob(f"*/probe/{dataset}/{RETRIEVAL_FILE}")):
        with np.load(path, allow_pickle=False) as stored:
            found[re.sub(r"(_seed)?_?\d+$", "", path.parts[-4])].append(dict(stored))
    galleries = {tuple(one["clip_ids"]) for seeds in found.values() for one in seeds}
    if len(galleries) != 1:
        raise SystemExit(f"{results}/*/probe/{dataset}: {len(galleries)} galleries, 1 is wanted")
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Retrieval over seeds.")
    parser.add_argument("results", type=Path, help="results folder of the experiment")
    parser.add_argument("--dataset", default="avdigits")
    options = parser.parse_args()
    found = collect(options.results, options.dataset)
    columns = [(way, k) for way in DIRECTIONS for k in RECALL_AT]
    titles = [f"R@{k}, {way.replace('_', ' ')}" for way, k in columns]
    print("| run | seeds |", " | ".join(titles), "|")
    print("|---|---|" + "---|" * len(columns))
    first = None
    for name, seeds in found.items():
        runs = [[resample_share(one[way] < k, **OPTIONS) for one in seeds] for way, k in columns]
        cells = [_mean(column, len(seeds[0]["clip_ids"])) for column in runs]
        print(f"| {name} | {len(seeds)} |", " | ".join(cells), "|")
        if first is None:
            first = runs
            continue
        cells = [_difference(ours, theirs) for ours, theirs in zip(runs, first, strict=True)]
        print("| over the first | |", " | ".join(cells), "|")


def _mean(runs: list[Resampled], num_clips: int) -> str:
    return _text(mean_over_seeds(runs, num_clips)) if len(runs) > 1 else f"{runs[0].value:.3f}"


def _difference(ours: list[Resampled], theirs: list[Resampled]) -> str:
    pairs = [one - other for one, other in zip(ours, theirs, strict=True)]
    return _text(mean_difference_over_seeds(pairs), "+.3f")


def _text(interval: Interval, form: str = ".3f") -> str:
    value, low, high = (format(interval[key], form) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
