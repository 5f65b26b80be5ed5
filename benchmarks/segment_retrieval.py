"""Retrieval by aligned segments: CPU seconds of every score.

python -m benchmarks.segment_retrieval --clips 1545 --segments 16 --dim 768
"""

import argparse
import time

import numpy as np

from pipeline_src.evaluate.segments import SCORES, segment_retrieval, segment_scores


def main() -> None:
    """Print CPU seconds of each score, and of all with intervals, on random features."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=1545)
    parser.add_argument("--segments", type=int, default=16)
    parser.add_argument("--dim", type=int, default=768)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (options.clips, options.segments, options.dim)
    sides = [rng.standard_normal(shape, dtype=np.float32) for _ in range(2)]
    unit = [side / np.linalg.norm(side, axis=-1, keepdims=True) for side in sides]
    for score in SCORES:
        started = time.process_time()
        segment_scores(unit[0], unit[1], score)
        print(f"{score:<14}{time.process_time() - started:>8.1f} s")
    started = time.process_time()
    segment_retrieval(sides[0], sides[1], num_resamples=1000, seed=0)
    print(f"{'all':<14}{time.process_time() - started:>8.1f} s")


if __name__ == "__main__":
    main()
