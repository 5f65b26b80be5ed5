"""Search among 1 k, 100 k and a million vectors: exact from the mapped file, and by a library.

    python benchmarks/search.py [--folder DIR]

``exact`` is what `av-pipeline search` does. Where faiss is installed (``pip install faiss-cpu``,
which nothing else here needs), two of its indexes stand beside it, in memory: ``ivf`` (lists of
k-means, of which the nearest few are read) and ``hnsw`` (a graph; 100 k at most by default, since
a million take too long to build). Of each: time to build, memory that it takes, time and CPU time
(of all threads; faiss answers with one) of a query, and which share of the ten nearest it finds;
those are of all products in float64.

Two kinds of vectors, of length 1: ``random``, where no vector is near another and no approximation
helps, and ``clustered``, a thousand groups within which the cosine is about 0.5. Prints a table and
adds to benchmarks/results/search.json. With ``--folder`` vectors and truth are kept and used again.
"""

import argparse
import importlib
import importlib.util
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.preprocess import describe_machine  # noqa: E402
from pipeline_src.inference.search.nearest import Pair, nearest  # noqa: E402
from pipeline_src.system.atomic import atomic_path, write_json  # noqa: E402
from pipeline_src.system.cores import num_cores  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "search.json"
WIDTH, TOP, QUERIES, BLOCK, GROUPS = 768, 10, 20, 50_000, 1000
KINDS, METHODS = ("random", "clustered"), ("exact", "ivf", "hnsw")
MIB = 1 << 20
Search = Callable[[NDArray], NDArray]


class Vectors(NamedTuple):
    """Stored vectors (N, D), queries (Q, D), and the rows (Q, K) that are nearest to each."""

    stored_ND: NDArray
    queries_QD: NDArray
    nearest_QK: NDArray


def main() -> None:
    """Measure every kind, size and method."""
    parser = argparse.ArgumentParser(description="Time the search.")
    add = parser.add_argument
    add("--rows", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--hnsw-rows", type=int, default=100_000, help="largest size that a graph is built of")
    add("--folder", type=Path, help="where vectors are kept; default: a temporary one")
    add("--prepare", action="store_true", help="write the vectors, measure nothing")
    add("--output", type=Path, default=OUTPUT, help="JSON file to write")
    options = parser.parse_args()
    machine, methods = describe_machine(), options.methods
    if importlib.util.find_spec("faiss") is None:
        methods = [method for method in methods if method == "exact"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for kind in options.kinds:
            for num_rows in options.rows:
                make_vectors(folder, kind, num_rows)
                graph_fits = num_rows <= options.hnsw_rows
                for method in methods if not options.prepare else ():
                    if method != "hnsw" or graph_fits:
                        found = in_a_process(measure, folder, kind, num_rows, method)
                        add_to_record(options.output, machine, found)


def add_to_record(path: Path, machine: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """Write rows into the record, in place of those of the same name."""
    known = json.loads(path.read_text(encoding="utf-8"))["measured"] if path.exists() else []
    rows = {(row["kind"], row["rows"], row["method"]): row for row in [*known, *found]}
    about = {"width": WIDTH, "top": TOP, "queries": QUERIES, "threads": num_cores()}
    measured = [rows[key] for key in sorted(rows)]
    write_json(path, {**machine, **about, "measured": measured})


def in_a_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call it in a process of its own, so that memory is nobody else's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def make_vectors(folder: Path, kind: str, num_rows: int) -> Vectors:
    """Write vectors and what is nearest to each query, unless both are there."""
    path, truth = folder / f"{kind}_{num_rows}.npy", folder / f"{kind}_{num_rows}_nearest.npy"
    rng = np.random.default_rng(0)
    centres = _whole(rng.standard_normal((GROUPS, WIDTH), np.float32))
    if not path.exists():
        with atomic_path(path) as temporary:
            stored = np.lib.format.open_memmap(temporary, "w+", np.float32, (num_rows, WIDTH))
            for start in range(0, num_rows, BLOCK):
                count = min(BLOCK, num_rows - start)
                stored[start : start + count] = _draw(rng, kind, count, centres)
            stored.flush()
    queries = _draw(np.random.default_rng(1), kind, QUERIES, centres)
    stored = np.load(path, mmap_mode="r")
    if not truth.exists():
        with atomic_path(truth) as temporary, temporary.open("wb") as stream:
            np.save(stream, _nearest(stored, queries))
    return Vectors(stored, queries, np.load(truth))


def _draw(rng: np.random.Generator, kind: str, count: int, centres: NDArray) -> NDArray:
    drawn = _whole(rng.standard_normal((count, WIDTH), np.float32))
    if kind == "clustered":
        drawn = _whole(drawn + centres[rng.integers(GROUPS, size=count)])
    return drawn


def _whole(vectors: NDArray) -> NDArray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _nearest(stored_ND: NDArray, queries_QD: NDArray) -> NDArray:
    starts = range(0, len(stored_ND), BLOCK)
    wide = queries_QD.astype(np.float64).T
    scores = np.concatenate([stored_ND[s : s + BLOCK].astype(np.float64) @ wide for s in starts])
    return np.argpartition(-scores, TOP - 1, axis=0)[:TOP].T


def measure(folder: Path, kind: str, num_rows: int, method: str) -> list[dict[str, Any]]:
    """Return and print a row for each variant of a method."""
    vectors = make_vectors(folder, kind, num_rows)
    found: list[dict[str, Any]] = []
    cost: dict[str, float] = {}
    if method != "exact":
        _faiss()  # its import is no part of building
    before, started, cpu_started = _memory(), time.perf_counter(), time.process_time()
    for name, search in BUILDERS[method](vectors.stored_ND):
        if not cost:
            cost = {
                "build_seconds": round(time.perf_counter() - started, 2),
                "build_cpu_seconds": round(time.process_time() - cpu_started, 2),
                "memory_mib": round(_memory() - before),
            }
        answers = _ask(search, vectors)
        found.append({"kind": kind, "rows": num_rows, "method": name, **cost, **answers})
        print("| " + " | ".join(str(value) for value in found[-1].values()) + " |", flush=True)
    return found


def _memory() -> float:
    """MiB of this process that are no pages of files."""
    usage = psutil.Process().memory_info()
    return (usage.rss - usage.shared) / MIB


def _ask(search: Search, vectors: Vectors) -> dict[str, float]:
    seconds, cpu_seconds, right = [], [], 0
    search(vectors.queries_QD[0])  # reads the file, or wakes threads
    for query, nearest_K in zip(vectors.queries_QD, vectors.nearest_QK, strict=True):
        started, cpu_started = time.perf_counter(), time.process_time()
        rows = search(query)
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
        right += len(set(rows.tolist()) & set(nearest_K.tolist()))
    return {
        "seconds_median": round(statistics.median(seconds), 5),
        "seconds_least": round(min(seconds), 5),
        "cpu_seconds_median": round(statistics.median(cpu_seconds), 5),
        "recall_at_10": round(right / (TOP * len(seconds)), 4),
    }


def _exact(stored_ND: NDArray) -> Iterator[tuple[str, Search]]:
    yield "exact", lambda query: nearest([Pair(query, stored_ND)], TOP).rows_K


def _ivf(stored_ND: NDArray) -> Iterator[tuple[str, Search]]:
    faiss = _faiss()
    num_lists = round(len(stored_ND) ** 0.5)
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(WIDTH), WIDTH, num_lists, faiss.METRIC_INNER_PRODUCT
    )
    index.train(np.ascontiguousarray(stored_ND[:: max(1, len(stored_ND) // (64 * num_lists))]))
    _fill(index, stored_ND)
    for probed in (8, 32):
        index.nprobe = probed
        yield f"ivf {probed} of {num_lists}", lambda query: index.search(query[None], TOP)[1][0]


def _hnsw(stored_ND: NDArray) -> Iterator[tuple[str, Search]]:
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(WIDTH, 32, faiss.METRIC_INNER_PRODUCT)
    _fill(index, stored_ND)
    for breadth in (64, 256):
        index.hnsw.efSearch = breadth
        yield f"hnsw {breadth}", lambda query: index.search(query[None], TOP)[1][0]


def _faiss() -> Any:
    faiss = importlib.import_module("faiss")  # few install it
    faiss.omp_set_num_threads(num_cores())
    return faiss


def _fill(index: Any, stored_ND: NDArray) -> None:
    for start in range(0, len(stored_ND), BLOCK):
        index.add(np.ascontiguousarray(stored_ND[start : start + BLOCK]))


BUILDERS: dict[str, Callable[[NDArray], Iterator[tuple[str, Search]]]] = {
    "exact": _exact,
    "ivf": _ivf,
    "hnsw": _hnsw,
}


if __name__ == "__main__":
    main()
