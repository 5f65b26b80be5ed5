"""Places in a plane: vectors that are alike lie near each other, by t-SNE.

Shape legend: N vectors, D width.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE

PERPLEXITY, SEED = 30.0, 0
SAME = 1e-9  # unit vectors this near are one: scikit-learn divides by their spread and crashes


def place_in_plane(vectors_ND: NDArray) -> NDArray:
    """Place vectors of about unit length by one t-SNE, (N, 2); equal ones at (0, 0)."""
    num_vectors = len(vectors_ND)
    if np.ptp(vectors_ND, axis=0).max() <= SAME:
        return np.zeros((num_vectors, 2), dtype=np.float32)
    perplexity = min(PERPLEXITY, (num_vectors - 1) / 3)
    init = "pca" if min(vectors_ND.shape) >= 2 else "random"
    return TSNE(perplexity=perplexity, init=init, random_state=SEED).fit_transform(vectors_ND)
