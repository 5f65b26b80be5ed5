"""Retrieval by aligned segments: CPU seconds of every score on random features.

    python -m benchmarks.segment_retrieval --clips 1545 --segments 16 --dim 768

Prints them and writes benchmarks/results/segment_retrieval.json; ``all`` is every score with its
ranks and 1,000 resamples.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.preprocess import describe_machine
from pipeline_src.evaluate.segments import SCORES, segment_retrieval, segment_scores

OUTPUT = Path(__file__).parent / "results" / "segment_retrieval.json"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=1545)
    parser.add_argument("--segments", type=int, default=16)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--out", type=Path, default=OUTPUT)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (options.clips, options.segments, options.dim)
    sides = [rng.standard_normal(shape, dtype=np.float32) for _ in range(2)]
    unit = [side / np.linalg.norm(side, axis=-1, keepdims=True) for side in sides]
    seconds = {
        score: cpu_seconds(lambda s=score: segment_scores(unit[0], unit[1], s)) for score in SCORES
    }
    everything = partial(segment_retrieval, sides[0], sides[1], num_resamples=1000, seed=0)
    seconds["all"] = cpu_seconds(everything)
    record = {**describe_machine(), "shape": shape, "cpu_seconds": seconds}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(f"{name:<14}{value:>8.1f} s" for name, value in seconds.items()))


def cpu_seconds(work: Callable[[], object]) -> float:
    """Time one call, in seconds of all threads."""
    started = time.process_time()
    work()
    return round(time.process_time() - started, 2)


if __name__ == "__main__":
    main()
