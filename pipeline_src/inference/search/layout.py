"""Places on a map: clips whose vectors are alike lie near each other.

Shape legend: N clips, D widths of all modalities together.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from pipeline_src.evaluate.plane import place_in_plane

MAX_TSNE = 5000  # of more clips it would take minutes; principal components then
FIT_ROWS = 20_000
COMPONENTS = 50


def place_clips(vectors: Mapping[str, NDArray], rows_N: NDArray) -> NDArray:
    """Place the rows that are named on a map: (N, 2) within [-1, 1]."""
    if len(rows_N) < 3:
        return np.linspace(-0.5, 0.5, 2 * len(rows_N), dtype=np.float32).reshape(-1, 2)
    fitted_on = np.random.default_rng(0).permutation(rows_N)[:FIT_ROWS]
    sample = _joined(vectors, np.sort(fitted_on))
    uses_tsne = len(rows_N) <= MAX_TSNE
    count = min(COMPONENTS if uses_tsne else 2, *sample.shape)
    components = PCA(count, random_state=0).fit(sample)
    blocks = np.array_split(rows_N, -(-len(rows_N) // FIT_ROWS))
    places = np.concatenate([components.transform(_joined(vectors, rows)) for rows in blocks])
    if uses_tsne:
        places = place_in_plane(places)
    return _within_one(places[:, :2])


def _joined(vectors: Mapping[str, NDArray], rows: NDArray) -> NDArray:
    """Join the vectors of all modalities of the named rows: (N, D)."""
    return np.concatenate([stored[rows] for stored in vectors.values()], axis=1)


def _within_one(places_N2: NDArray) -> NDArray:
    """Scale each axis to [-1, 1]: (N, 2) float32; 0 where all are equal."""
    low, high = places_N2.min(axis=0), places_N2.max(axis=0)
    scaled = 2 * (places_N2 - low) / np.maximum(high - low, 1e-9) - 1
    return np.where(high > low, scaled, 0).astype(np.float32)
