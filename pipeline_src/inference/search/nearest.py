"""Exact search: every stored vector is compared, block by block from the memory-mapped file.

Shape legend: N stored vectors, D width, K results.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from pipeline_src.system.cores import num_cores

BLOCK_ROWS = 8192  # 25 MB of 768 numbers: a thread's product of it takes milliseconds


class Pair(NamedTuple):
    """A vector (D,) that is looked for, and those (N, D) that it is compared with."""

    wanted_D: NDArray
    stored_ND: NDArray


class Nearest(NamedTuple):
    """Rows (K,) of the best vectors, the best first, and their scores (K,)."""

    rows_K: NDArray
    scores_K: NDArray


def nearest(pairs: Sequence[Pair], top: int, allowed_N: NDArray | None = None) -> Nearest:
    """Find the ``top`` rows with the highest mean product over ``pairs``; of equal ones the first.

    Args:
        allowed_N: rows that may be found, as booleans; None = all.
    """
    num_rows = len(pairs[0].stored_ND)
    starts = [
        start
        for start in range(0, num_rows, BLOCK_ROWS)
        if allowed_N is None or allowed_N[start : start + BLOCK_ROWS].any()
    ]
    # One thread of BLAS for each of ours: its own threads would wait for each other per block.
    with _blas().limit(limits=1), ThreadPoolExecutor(num_cores()) as pool:
        found = list(pool.map(lambda start: _best_of_block(pairs, start, top, allowed_N), starts))
    if not found:
        return Nearest(np.empty(0, np.int64), np.empty(0, np.float32))
    rows = np.concatenate([one.rows_K for one in found])
    return _best(rows, np.concatenate([one.scores_K for one in found]), top)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def _best_of_block(
    pairs: Sequence[Pair], start: int, top: int, allowed_N: NDArray | None
) -> Nearest:
    block = slice(start, start + BLOCK_ROWS)
    products = [pair.stored_ND[block] @ pair.wanted_D for pair in pairs]
    scores = products[0] if len(products) == 1 else np.mean(products, axis=0)
    rows = np.arange(start, start + len(scores))
    if allowed_N is not None:
        kept = allowed_N[block]
        rows, scores = rows[kept], scores[kept]
    return _best(rows, scores, top)


def _best(rows: NDArray, scores: NDArray, top: int) -> Nearest:
    if len(scores) > top:
        # All that are as good as the last one, so that ties are not cut at random.
        limit = np.partition(scores, len(scores) - top)[len(scores) - top]
        kept = scores >= limit
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((rows, -scores))[:top]
    return Nearest(rows[order], scores[order])
