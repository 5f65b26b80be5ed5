"""Exact search over 1 k, 100 k and a million vectors: seconds per query, from the mapped file.

    python benchmarks/search.py [--rows 1000 100000 1000000] [--folder DIR]

Random vectors of length 1, which no approximation helps. The first query reads the file, the others
find it in the page cache. For every size the answer is compared with all products in float64.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_src.inference.search.nearest import Pair, nearest
from pipeline_src.system.cores import num_cores

WIDTH, TOP, QUERIES, BLOCK = 768, 10, 10, 50_000


def main() -> None:
    """Measure every size and print a row of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="of the vectors; default: a temporary one")
    options = parser.parse_args()
    for num_rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            stored_ND = _write(Path(folder) / "vectors.npy", num_rows)
            print(json.dumps(_measure(stored_ND)), flush=True)


def _write(path: Path, num_rows: int) -> NDArray:
    rng = np.random.default_rng(0)
    stored = np.lib.format.open_memmap(path, "w+", np.float32, (num_rows, WIDTH))
    for start in range(0, num_rows, BLOCK):
        block = rng.standard_normal((min(BLOCK, num_rows - start), WIDTH), np.float32)
        stored[start : start + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    stored.flush()
    return np.load(path, mmap_mode="r")


def _measure(stored_ND: NDArray) -> dict[str, object]:
    rng = np.random.default_rng(1)
    wanted = rng.standard_normal((QUERIES, WIDTH), np.float32)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    seconds, right = [], 0
    nearest([Pair(wanted[0], stored_ND)], TOP)
    for query in wanted:
        started = time.perf_counter()
        found = nearest([Pair(query, stored_ND)], TOP)
        seconds.append(time.perf_counter() - started)
        right += len(set(found.rows_K.tolist()) & _truth(stored_ND, query))
    return {
        "rows": len(stored_ND),
        "width": WIDTH,
        "seconds_median": round(statistics.median(seconds), 5),
        "seconds_worst": round(max(seconds), 5),
        "recall_at_10": right / (TOP * QUERIES),
        "cores": num_cores(),
        "cpu": _cpu(),
    }


def _truth(stored_ND: NDArray, query: NDArray) -> set[int]:
    starts = range(0, len(stored_ND), BLOCK)
    wide = query.astype(np.float64)
    scores = np.concatenate([stored_ND[s : s + BLOCK].astype(np.float64) @ wide for s in starts])
    return set(np.argsort(-scores, kind="stable")[:TOP].tolist())


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
