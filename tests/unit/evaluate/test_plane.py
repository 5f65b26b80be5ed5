"""Places in a plane: near where alike, and one place for one vector."""

import numpy as np
import pytest

from pipeline_src.evaluate.plane import place_in_plane


def test_vectors_that_are_alike_lie_together():
    noise = np.random.default_rng(0).standard_normal((40, 6))
    vectors = np.repeat(np.eye(6)[:2], 20, axis=0) + 0.01 * noise
    one, other = place_in_plane(vectors).reshape(2, 20, 2)
    within = max(np.ptp(group, axis=0).max() for group in (one, other))
    assert np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)) > within


@pytest.mark.parametrize("apart", [0, 1e-30, 1e-24])
def test_equal_vectors_have_one_place(apart):
    noise = np.random.default_rng(0).standard_normal((20, 8))
    assert not place_in_plane(np.eye(8)[[0] * 20] + apart * noise).any()


@pytest.mark.parametrize("shape", [(3, 1), (2, 8), (10, 2), (200, 3)])
def test_few_narrow_and_repeated_vectors_have_finite_places(shape):
    vectors = np.random.default_rng(0).standard_normal(shape)
    vectors[: shape[0] // 2] = vectors[0]
    places = place_in_plane(vectors)
    assert places.shape == (shape[0], 2)
    assert np.isfinite(places).all()
